"""Train the digits network: `python -m edgedeploy.zoo.train_digits --output digits.safetensors`."""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from edgedeploy.zoo.digits import DigitsNet, build
from edgedeploy.zoo.digits_data import load_split

EPOCHS = 40
BATCH = 64
RATE = 3e-3
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.1


def train(*, seed: int = 0, epochs: int = EPOCHS) -> DigitsNet:
    """The network trained on split "train" from this seed alone, in evaluation mode.

    The test split is not looked at.
    """
    torch.manual_seed(seed)
    images, labels = (torch.from_numpy(array) for array in load_split("train"))
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            loss = loss_of(model(jittered(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def jittered(images: torch.Tensor) -> torch.Tensor:
    """Images turned by up to 12 degrees, scaled by up to 12 % and shifted by up to a pixel."""
    count = len(images)
    turn = (torch.rand(count) * 2 - 1) * torch.pi * 12 / 180
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.12
    # a pixel is 2/8 in the coordinates of affine_grid
    shift = (torch.rand(count, 2, 1) * 2 - 1) * 0.25
    cosine, sine = scale * turn.cos(), scale * turn.sin()
    rows = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    grid = functional.affine_grid(
        torch.cat([rows, shift], 2), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, align_corners=False)


@torch.no_grad()
def accuracy(model: DigitsNet, split: str) -> float:
    """The share of the split's images that are recognised, 0 to 1."""
    images, labels = (torch.from_numpy(array) for array in load_split(split))
    return float((model(images).argmax(1) == labels).float().mean())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    chosen = parser.parse_args(arguments)
    # sums in one order: a seed gives the same weights again on the same processor and torch
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = train(seed=chosen.seed, epochs=chosen.epochs)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), chosen.output)
    figures = ", ".join(f"{split} {accuracy(model, split):.4f}" for split in ("train", "test"))
    sys.stdout.write(f"{chosen.output}: accuracy {figures}\n")


if __name__ == "__main__":
    main()
