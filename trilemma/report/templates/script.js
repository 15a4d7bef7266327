// The page works without this: it sorts the table, folds the seeds away and opens everything for the printer.
(() => {
  document.documentElement.classList.add("js");
  const table = document.querySelector("table.sortable");
  if (table) {
    const heads = [...table.tHead.rows[1].cells];
    const kinds = ["model", "included", "baseline", "floor"];
    const original = [...table.tBodies];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const first = head.textContent.includes("↑") ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const now = before === first ? second : before === second ? null : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (now) head.setAttribute("aria-sort", now);
        const sign = now === "descending" ? -1 : 1;
        const key = (body) => {
          const cell = body.rows[0].cells[column];
          if (column === 0) return cell.textContent;
          return cell && cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : null;
        };
        const order = [...original];
        if (now) {
          order.sort((one, two) => {
            const kind = kinds.indexOf(one.dataset.kind) - kinds.indexOf(two.dataset.kind);
            if (kind) return kind;
            const [a, b] = [key(one), key(two)];
            if (a === null || b === null) return (a === null) - (b === null);
            return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
          });
        }
        let last = "";
        order.forEach((body) => {
          body.classList.toggle("first", body.dataset.kind !== last);
          last = body.dataset.kind;
          table.append(body);
        });
      });
    });
    original.filter((body) => body.rows.length > 1).forEach((body) => {
      const note = body.querySelector("small.note");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "seeds";
      button.setAttribute("aria-expanded", "false");
      button.textContent = note ? note.textContent : "seeds";
      if (note) note.replaceChildren(button);
      button.addEventListener("click", () => {
        const open = body.classList.toggle("open");
        button.setAttribute("aria-expanded", String(open));
      });
    });
  }
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => (one.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((one) => (one.open = false)));
  // While the comparison goes on, a reader who is still at the top sees the newest page.
  if (document.body.hasAttribute("data-unfinished")) {
    setInterval(() => {
      if (scrollY < 40 && !document.hidden && !document.querySelector("details[open]")) location.reload();
    }, 15000);
  }
})();
