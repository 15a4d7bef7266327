"""Train one peer library on small images for a number of seconds, then draw samples from it.

Every peer runs at the settings of its own example for images of this size; what differs is said beside it. Labels are
not used. The seconds count the training loop alone: imports, reading the data and building the networks come before.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch
from images import as_planes, read_split
from torch import nn
from torch.nn import functional

MOMENTS = 8


def stand_in_for_torchvision_operators() -> torch.library.Library:
    """Define the operators that torchvision's Python part registers against, since its compiled part may be missing."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms", "roi_align"):
        library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
    return library


def count(*modules: nn.Module) -> int:
    """Return the number of parameters of the modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


class Diffusers:
    """UNet2DModel (32, 64, 64) with attention at the coarsest level, DDPM's loss, its EMAModel, DDIM in 50 steps.

    Network shape and learning rate as in the Hugging Face course's MNIST unit (there two layers a block and batch 128:
    one layer and batch 64 give more steps in the same seconds); averaging as in train_unconditional.py.
    """

    packages = ("diffusers",)
    settings = "UNet2DModel (32, 64, 64), 1 layer a block, DDPM loss, Adam 1e-3, EMAModel warm-up power 3/4, DDIM 50"
    batch = 64
    sample_batch = 250

    def __init__(self, shape: tuple[int, int, int]) -> None:
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        self.network = UNet2DModel(
            sample_size=shape[1],
            in_channels=shape[0],
            out_channels=shape[0],
            layers_per_block=1,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
        self.schedule = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.average = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.parameters = count(self.network)

    def step(self, images: torch.Tensor) -> dict[str, float]:
        """Take one step on images (B, C, H, W) in [0, 1]; return the losses by name."""
        images = images * 2 - 1
        noise = torch.randn_like(images)
        times = torch.randint(0, 1000, (len(images),))
        predicted = self.network(self.schedule.add_noise(images, noise, times), times).sample
        loss = functional.mse_loss(predicted, noise)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.step(self.network.parameters())
        return {"loss": loss.item()}

    def weights(self) -> dict:
        """Return what is saved: the averaged weights, from which samples are drawn, and the last ones."""
        last = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.average.store(self.network.parameters())
        self.average.copy_to(self.network.parameters())
        averaged = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.average.restore(self.network.parameters())
        return {"averaged": averaged, "last": last}

    def load(self, saved: dict) -> None:
        """Load the weights from which samples are drawn."""
        self.network.load_state_dict(saved["averaged"])
        self.network.eval()

    def sample(self, number: int) -> torch.Tensor:
        """Return images (number, C, H, W) in [0, 1]."""
        from diffusers import DDIMPipeline, DDIMScheduler

        pipeline = DDIMPipeline(self.network, DDIMScheduler.from_config(self.schedule.config))
        pipeline.set_progress_bar_config(disable=True)
        made = pipeline(batch_size=number, num_inference_steps=50, output_type="np").images
        return torch.from_numpy(made).permute(0, 3, 1, 2)


class TorchCFM:
    """UNetModel with 32 channels, exact optimal-transport flow matching, Euler in 50 steps.

    Network and optimizer as in its MNIST notebook (batch 128 there: 64 gives more steps in the same seconds); averaging
    by the rule of its CIFAR-10 example, whose decay of 0.9999 is warmed up, since it would keep the first weights here.
    """

    packages = ("torchcfm",)
    settings = "UNetModel (32), exact optimal transport, Adam 1e-3, averaged weights (decay warmed up), Euler 50"
    batch = 64
    sample_batch = 100

    def __init__(self, shape: tuple[int, int, int]) -> None:
        from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
        from torchcfm.models.unet import UNetModel

        self.shape = shape
        self.network = UNetModel(dim=shape, num_channels=32, num_res_blocks=1)
        self.matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.averaged = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.steps = 0
        self.parameters = count(self.network)

    def step(self, images: torch.Tensor) -> dict[str, float]:
        """Take one step on images (B, C, H, W) in [0, 1]; return the losses by name."""
        images = images * 2 - 1
        times, between, velocity = self.matcher.sample_location_and_conditional_flow(torch.randn_like(images), images)
        loss = functional.mse_loss(self.network(times, between), velocity)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        decay = min(0.9999, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.averaged[name].lerp_(value, 1 - decay)
        return {"loss": loss.item()}

    def weights(self) -> dict:
        """Return what is saved: the averaged weights, from which samples are drawn, and the last ones."""
        return {"averaged": self.averaged, "last": self.network.state_dict()}

    def load(self, saved: dict) -> None:
        """Load the weights from which samples are drawn."""
        self.network.load_state_dict(saved["averaged"])
        self.network.eval()

    @torch.no_grad()
    def sample(self, number: int) -> torch.Tensor:
        """Return images (number, C, H, W) in [0, 1]."""
        images = torch.randn(number, *self.shape)
        for step in range(50):
            images = images + self.network(torch.full((number,), step / 50), images) / 50
        return images / 2 + 0.5


class Pythae:
    """VAE with the library's convolutional networks for MNIST or CIFAR, its scripts' settings, samples from N(0, I)."""

    packages = ("pythae",)
    settings = "VAE, its convolutional networks for MNIST or CIFAR, latent 16 or 256, MSE, Adam 1e-3, NormalSampler"
    batch = 100
    sample_batch = 500

    def __init__(self, shape: tuple[int, int, int]) -> None:
        from pythae.models import VAE, VAEConfig
        from pythae.models.nn.benchmarks import cifar, mnist

        config = VAEConfig(input_dim=shape, latent_dim=16 if shape[0] == 1 else 256, reconstruction_loss="mse")
        if shape[0] == 1:
            encoder, decoder = mnist.Encoder_Conv_VAE_MNIST(config), mnist.Decoder_Conv_AE_MNIST(config)
        else:
            encoder, decoder = cifar.Encoder_Conv_VAE_CIFAR(config), cifar.Decoder_Conv_AE_CIFAR(config)
        self.network = VAE(config, encoder, decoder)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.parameters = count(self.network)

    def step(self, images: torch.Tensor) -> dict[str, float]:
        """Take one step on images (B, C, H, W) in [0, 1]; return the losses by name."""
        self.network.train()
        out = self.network({"data": images})
        self.optimizer.zero_grad()
        out.loss.backward()
        self.optimizer.step()
        return {"loss": out.loss.item(), "reconstruction": out.recon_loss.item(), "divergence": out.reg_loss.item()}

    def weights(self) -> dict:
        """Return what is saved."""
        return {"last": self.network.state_dict()}

    def load(self, saved: dict) -> None:
        """Load the weights from which samples are drawn."""
        self.network.load_state_dict(saved["last"])
        self.network.eval()

    @torch.no_grad()
    def sample(self, number: int) -> torch.Tensor:
        """Return images (number, C, H, W) in [0, 1]."""
        from pythae.samplers import NormalSampler

        return NormalSampler(self.network).sample(num_samples=number, batch_size=number)


class TorchGAN:
    """DCGAN at 32 pixels with 32 channels, non-saturating loss, the settings of its introduction's MNIST example.

    Smaller images are padded to 32 x 32 and samples cropped, where the example resizes: that would blur its samples.
    """

    packages = ("torchgan", "torchvision")
    settings = "DCGAN, 32 px, 32 channels, minimax loss (non-saturating), Adam 1e-4 and 3e-4, betas (0.5, 0.999)"
    batch = 64
    sample_batch = 500

    def __init__(self, shape: tuple[int, int, int]) -> None:
        from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
        from torchgan.models import DCGANDiscriminator, DCGANGenerator

        self.border = (32 - shape[1]) // 2
        self.generator = DCGANGenerator(
            encoding_dims=100, out_size=32, out_channels=shape[0], step_channels=32, nonlinearity=nn.LeakyReLU(0.2)
        )
        leaky = {"nonlinearity": nn.LeakyReLU(0.2), "last_nonlinearity": nn.LeakyReLU(0.2)}
        self.critic = DCGANDiscriminator(in_size=32, in_channels=shape[0], step_channels=32, **leaky)
        self.generator_loss, self.critic_loss = MinimaxGeneratorLoss(), MinimaxDiscriminatorLoss()
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=1e-4, betas=(0.5, 0.999))
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=3e-4, betas=(0.5, 0.999))
        self.parameters = count(self.generator, self.critic)

    def step(self, images: torch.Tensor) -> dict[str, float]:
        """Take one step on images (B, C, H, W) in [0, 1]; return the losses by name."""
        images = functional.pad(images * 2 - 1, (self.border,) * 4, value=-1.0)
        device = images.device
        generator = self.generator_loss.train_ops(
            self.generator, self.critic, self.generator_optimizer, device, len(images)
        )
        critic = self.critic_loss.train_ops(self.generator, self.critic, self.critic_optimizer, images, device)
        return {"generator": generator, "critic": critic}

    def weights(self) -> dict:
        """Return what is saved."""
        return {"generator": self.generator.state_dict(), "critic": self.critic.state_dict()}

    def load(self, saved: dict) -> None:
        """Load the weights from which samples are drawn."""
        self.generator.load_state_dict(saved["generator"])
        self.generator.eval()

    @torch.no_grad()
    def sample(self, number: int) -> torch.Tensor:
        """Return images (number, C, H, W) in [0, 1]."""
        made = self.generator(*self.generator.sampler(number, "cpu"))
        return made[:, :, self.border : 32 - self.border, self.border : 32 - self.border] / 2 + 0.5


PEERS = {"diffusers": Diffusers, "torchcfm": TorchCFM, "pythae": Pythae, "torchgan": TorchGAN}


def batches(images: torch.Tensor, size: int):
    """Yield batches (size, C, H, W) in [0, 1] without end, a new order for each pass over the images."""
    while True:
        for chosen in torch.randperm(len(images)).split(size):
            if len(chosen) == size:
                yield images[chosen].float() / 255


def cpu_seconds() -> float:
    """Return the processor seconds that this process has used, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def train(peer, images: torch.Tensor, seconds: float) -> dict:
    """Train for so many seconds; return rates and the mean losses at a few moments."""
    seen, steps, moments, window = 0, 0, [], []
    cpu, start = cpu_seconds(), time.perf_counter()
    for batch in batches(images, peer.batch):
        window.append(peer.step(batch))
        seen, steps = seen + len(batch), steps + 1
        passed = time.perf_counter() - start
        if passed >= seconds * (len(moments) + 1) / MOMENTS or passed >= seconds:
            mean = {name: round(float(np.mean([losses[name] for losses in window])), 4) for name in window[0]}
            moments.append({"seconds": round(passed, 1), "images": seen, **mean})
            print(json.dumps(moments[-1]), flush=True)
            window = []
        if passed >= seconds:
            break
    passed = time.perf_counter() - start
    return {
        "training_seconds": round(passed, 2),
        "training_cpu_seconds": round(cpu_seconds() - cpu, 2),
        "training_images": seen,
        "training_steps": steps,
        "training_images_per_second": round(seen / passed, 1),
        "losses": moments,
    }


def sample(peer, number: int) -> tuple[np.ndarray, dict]:
    """Return samples (number, H, W[, C]) as bytes, and the rate of the fastest batch: others may use the machine."""
    made, rates, cpu, start = [], [], cpu_seconds(), time.perf_counter()
    for first in range(0, number, peer.sample_batch):
        begin = time.perf_counter()
        part = peer.sample(min(peer.sample_batch, number - first))
        made.append((part.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        rates.append(len(part) / (time.perf_counter() - begin))
        print(f"samples {first + len(part)} of {number}, {rates[-1]:.2f} a second", flush=True)
    row = {
        "samples": number,
        "sampling_seconds": round(time.perf_counter() - start, 2),
        "sampling_cpu_seconds": round(cpu_seconds() - cpu, 2),
        "sampling_images_per_second": round(max(rates), 2),
    }
    return np.concatenate(made), row


def main() -> None:
    """Train, sample or both; row.json is rewritten with what was measured, after each of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, choices=sorted(PEERS))
    parser.add_argument("--data", required=True, help="folder of IDX files, or an .npz (images.py)")
    parser.add_argument("--out", required=True, type=Path, help="folder for weights.pt, samples.npy and row.json")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    parser.add_argument("--phase", choices=("train", "sample", "all"), default="all")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)  # before any parallel work: threads that exist by then keep their denormals
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights, record = arguments.out / "weights.pt", arguments.out / "row.json"
    keep = stand_in_for_torchvision_operators()

    torch.manual_seed(arguments.seed)
    np.random.seed(arguments.seed)  # torchcfm draws its transport pairs from NumPy's generator
    planes = as_planes(read_split(arguments.data, "train")[0])
    peer = PEERS[arguments.peer](planes.shape[1:])
    row = json.loads(record.read_text()) if record.exists() else {}
    if arguments.phase in ("train", "all"):
        images = torch.from_numpy(planes.copy())
        versions = {name: importlib.metadata.version(name) for name in ("torch", *peer.packages)}
        row = {"name": arguments.peer, "settings": peer.settings, "parameters": peer.parameters, "batch": peer.batch}
        row |= {"seed": arguments.seed, "seconds": arguments.seconds, "threads": arguments.threads}
        row["versions"] = versions
        row |= train(peer, images, arguments.seconds)
        torch.save(peer.weights(), weights)
        record.write_text(json.dumps(row, indent=1) + "\n")
    if arguments.phase in ("sample", "all"):
        peer.load(torch.load(weights, weights_only=True))
        torch.manual_seed(arguments.seed + 1)
        images, measured = sample(peer, arguments.samples)
        np.save(arguments.out / "samples.npy", images)
        record.write_text(json.dumps(row | measured, indent=1) + "\n")
        print(json.dumps(measured), flush=True)
    del keep


if __name__ == "__main__":
    main()
