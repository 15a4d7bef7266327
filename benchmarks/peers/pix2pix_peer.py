"""The published recipe of pix2pix (Isola et al. 2017) as a plain loop, for some seconds; then it translates.

    ENV/bin/python benchmarks/peers/pix2pix_peer.py TRAIN_A TRAIN_B TEST_A --seconds 600 --out MADE

Written from the paper, appendix 6.1 and 6.2: U-Net with skips, dropout of 0.5 in the first three blocks of the decoder,
70 x 70 patch critic that sees source and target, binary cross-entropy (critic halved) + 100 L1, batch 1 with batch
normalisation (which is instance normalisation there), weights from N(0, 0.02), Adam 2e-4 with betas (0.5, 0.999),
constant for half of the training and then falling to 0, pictures enlarged by an eighth and cut at random, mirrored.
Dropout stays on when it translates, as in the paper. Sides are squares of a power of two; others are resized to 64.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional


def pictures(folder: Path, side: int) -> tuple[Tensor, list[str], tuple[int, int]]:
    """(N, 3, side, side) in [-1, 1], their names, and the size that they had."""
    files = sorted(folder.glob("*.png"))
    held = [Image.open(file).convert("RGB") for file in files]
    x = np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in held])
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1, [file.stem for file in files], held[0].size


class Block(nn.Module):
    """One level of the U-Net: halve, what is inside, double; the input is concatenated to what comes back."""

    def __init__(self, inputs: int, inner: int, outputs: int, inside: nn.Module | None, *, outermost=False, drop=False):
        super().__init__()
        self.outermost = outermost
        down: list[nn.Module] = [nn.Conv2d(inputs, inner, 4, 2, 1, bias=outermost or inside is None)]
        if not outermost:
            down.insert(0, nn.LeakyReLU(0.2))
            if inside is not None:
                down.append(nn.BatchNorm2d(inner, track_running_stats=False))
        up: list[nn.Module] = [nn.ReLU(), nn.ConvTranspose2d(inner * (1 if inside is None else 2), outputs, 4, 2, 1)]
        up += [nn.Tanh()] if outermost else [nn.BatchNorm2d(outputs, track_running_stats=False)]
        up += [nn.Dropout(0.5)] if drop else []
        self.net = nn.Sequential(*down, *([] if inside is None else [inside]), *up)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if self.outermost else torch.cat([x, self.net(x)], 1)


def generator(side: int, width: int = 64) -> nn.Module:
    levels = side.bit_length() - 1
    widths = [min(width * 2**level, 8 * width) for level in range(levels)]
    block = Block(widths[-2], widths[-1], widths[-2], None, drop=True)
    for level in range(levels - 2, 0, -1):
        block = Block(widths[level - 1], widths[level], widths[level - 1], block, drop=levels - 1 - level < 3)
    return Block(3, widths[0], 3, block, outermost=True)


def critic(width: int = 64) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(6, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    here = width
    for stride in (2, 2, 1):
        wider = min(2 * here, 8 * width)
        layers += [nn.Conv2d(here, wider, 4, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
        here = wider
    return nn.Sequential(*layers, nn.Conv2d(here, 1, 4, 1, 1))


def weights(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1, 0.02)
        nn.init.zeros_(layer.bias)


def jittered(pair: Tensor, side: int) -> Tensor:
    """(1, 6, side, side): enlarged by an eighth, cut at random, mirrored half of the time."""
    large = side + side // 8
    pair = functional.interpolate(pair, (large, large), mode="bilinear", align_corners=False)
    top, left = (int(torch.randint(large - side + 1, ())) for _ in range(2))
    pair = pair[:, :, top : top + side, left : left + side]
    return pair.flip(3) if torch.rand(()) < 0.5 else pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs=3, type=Path, metavar="TRAIN_A TRAIN_B TEST_A")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--side", type=int, default=64, help="a power of two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    (a, _, _), (b, _, size), (test, names, _) = (pictures(folder, given.side) for folder in given.folders)
    begun = time.perf_counter()
    make, judge = generator(given.side).apply(weights), critic().apply(weights)
    movers = [torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999)) for net in (make, judge)]
    entropy, steps = functional.binary_cross_entropy_with_logits, 0
    while (gone := (time.perf_counter() - begun) / given.seconds) < 1:
        for mover in movers:
            mover.param_groups[0]["lr"] = 2e-4 * min(1.0, 2 * (1 - gone))
        row = int(torch.randint(len(a), ()))
        source, target = jittered(torch.cat([a[row : row + 1], b[row : row + 1]], 1), given.side).chunk(2, 1)
        made = make(source)
        on_real, on_made = (judge(torch.cat([source, x], 1)) for x in (target, made.detach()))
        loss = (entropy(on_real, torch.ones_like(on_real)) + entropy(on_made, torch.zeros_like(on_made))) / 2
        movers[1].zero_grad()
        loss.backward()
        movers[1].step()
        on_made = judge(torch.cat([source, made], 1))
        loss = entropy(on_made, torch.ones_like(on_made)) + 100 * (made - target).abs().mean()
        movers[0].zero_grad()
        loss.backward()
        movers[0].step()
        steps += 1
    print(f"{steps:,} steps of batch 1 in {time.perf_counter() - begun:.0f} s")
    given.out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for name, source in zip(names, test, strict=True):
            x = ((make(source[None])[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            Image.fromarray(x).resize(size, Image.Resampling.BICUBIC).save(given.out / f"{name}.png")


if __name__ == "__main__":
    main()
