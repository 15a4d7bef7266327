// The quiz: nothing is sent; the answers stay in this page until the reader saves them.
function clopperPearson(hits, shown) {
  // Exact 95 % interval of a share: at its ends, so many hits or more (so few or fewer) have a chance of 2.5 %.
  const atLeast = (count, share) => {
    let sum = 0;
    let log = 0; // of the binomial coefficient
    for (let i = 0; i <= shown; i++) {
      if (i >= count) sum += Math.exp(log + i * Math.log(share) + (shown - i) * Math.log1p(-share));
      log += Math.log((shown - i) / (i + 1));
    }
    return sum;
  };
  const solve = (count, chance) => {
    let [low, high] = [0, 1];
    for (let i = 0; i < 50; i++) {
      const middle = (low + high) / 2;
      if (atLeast(count, middle) < chance) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  };
  return [hits ? solve(hits, 0.025) : 0, hits < shown ? solve(hits + 1, 0.975) : 1];
}
(() => {
  const quiz = document.getElementById("quiz");
  if (!quiz) return;
  const bytes = Uint8Array.from(atob(quiz.dataset.key), (letter) => letter.charCodeAt(0));
  const key = JSON.parse(new TextDecoder().decode(bytes));
  const part = (name) => quiz.querySelector(`[data-part=${name}]`);
  const canvas = quiz.querySelector("canvas");
  const [real, generated, stop] = [part("real"), part("generated"), part("stop")];
  const families = [...quiz.querySelectorAll("[data-family]")];
  const sheet = new Image();
  const loaded = new Promise((done) => sheet.addEventListener("load", done));
  sheet.src = quiz.dataset.sheet;
  const answers = [];
  const order = [...key.truth.keys()];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  let since = 0;
  let state = "before";
  quiz.hidden = false;

  const naming = (on) => {
    generated.setAttribute("aria-pressed", String(on));
    part("families").classList.toggle("waiting", !on);
    families.forEach((button) => (button.disabled = !on));
  };
  const show = () => {
    if (answers.length === order.length) return finish();
    const place = order[answers.length];
    const [column, row] = [place % key.columns, Math.floor(place / key.columns)];
    const { width, height, gap } = key;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.drawImage(sheet, column * (width + gap), row * (height + gap), width, height, 0, 0, width, height);
    part("progress").textContent = `Picture ${answers.length + 1} of ${order.length}`;
    stop.disabled = !answers.length;
    naming(false);
    since = performance.now();
  };
  const answer = (guess, family) => {
    const item = order[answers.length];
    const [truth, origin] = key.sources[key.truth[item]];
    const milliseconds = Math.round(performance.now() - since);
    answers.push({ item, truth, family: origin, guess, family_guess: family, milliseconds });
    part("stage").focus({ preventScroll: true });
    show();
  };
  const called = () => (families.length > 1 ? naming(true) : answer("generated", null));
  const finish = () => {
    state = "after";
    part("stage").hidden = true;
    part("after").hidden = false;
    const body = quiz.querySelector("tbody");
    const percent = (share) => Math.round(100 * share);
    const count = (list) => list.filter((one) => one.guess === "real").length;
    for (const origin of ["real", ...key.families]) {
      const list = answers.filter((one) => one.family === origin);
      const named = list.filter((one) => one.family_guess !== null);
      const right = named.filter((one) => one.family_guess === origin).length;
      const line = body.insertRow();
      line.className = `family-${origin === "real" ? "floor" : origin}`;
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = origin === "real" ? "Real pictures" : origin;
      line.append(head);
      const cell = (text) => (line.insertCell().textContent = text);
      cell(list.length ? `${count(list)} of ${list.length}` : "none shown");
      const track = line.insertCell();
      if (list.length) {
        const [low, high] = clopperPearson(count(list), list.length);
        track.innerHTML = '<span class="track"><i></i><b></b></span>';
        const [bar, dot] = track.firstChild.children;
        bar.style.left = `${100 * low}%`;
        bar.style.width = `${100 * (high - low)}%`;
        dot.style.left = `${(100 * count(list)) / list.length}%`;
        const span = document.createElement("small");
        span.textContent = `${percent(low)} to ${percent(high)} %`;
        line.insertCell().append(`${percent(count(list) / list.length)} %`, span);
      } else line.insertCell();
      if (families.length > 1) cell(origin !== "real" && named.length ? `${right} of ${named.length}` : "");
    }
    const [ones, others] = [true, false].map((is) => answers.filter((one) => (one.family === "real") === is));
    const said = (list, what) => list.length && `${count(list)} of ${list.length} ${what} ones`;
    part("score").textContent =
      `You took ${[said(ones, "real"), said(others, "generated")].filter(Boolean).join(" and ")} for real.`;
    part("after").focus();
  };
  const save = () => {
    const { format, title, data_hash, protocol_key, items_hash, items, families: known } = key;
    const record = { format, title, data_hash, protocol_key, items_hash, items, families: known, answers };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 1)], { type: "application/json" }));
    link.download = "quiz-answers.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  part("start").addEventListener("click", async () => {
    await loaded;
    [canvas.width, canvas.height] = [key.width, key.height];
    canvas.style.width = `min(100%, ${Math.min(Math.max(3 * key.width, 160), 320)}px)`;
    canvas.classList.toggle("crisp", key.crisp);
    state = "asking";
    part("before").hidden = true;
    part("stage").hidden = false;
    part("stage").focus({ preventScroll: true });
    part("stage").scrollIntoView({ block: "nearest" });
    show();
  });
  real.addEventListener("click", () => answer("real", null));
  generated.addEventListener("click", called);
  families.forEach((button) => button.addEventListener("click", () => answer("generated", button.dataset.family)));
  stop.addEventListener("click", finish);
  part("save").addEventListener("click", save);
  quiz.addEventListener("keydown", (event) => {
    if (state !== "asking" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const letter = event.key.toLowerCase();
    const family = families[Number(letter) - 1];
    if (letter === "r") answer("real", null);
    else if (letter === "g") called();
    else if (family && !family.disabled) answer("generated", family.dataset.family);
    else return;
    event.preventDefault();
  });
})();
