"""The reward network of the paper, for one model, as a textbook writes it.

`fast.grid` trains many of these at once; the tests and the benchmarks compare it with this one, and
notebook 05 with a copy that stands on the page.
"""

import threading

import torch
from torch import Tensor, nn
from torch.nn import functional

CLIP = 20.0  # bound on the reward; the authors' released code
DROPOUT = 0.2  # the authors' released code
# Units that dropout may strike: the features, and both hidden layers; the authors' released code.
DROPPED = (256, 64, 64)

# torch.manual_seed sets one generator for all threads, and chunks of a study start in several.
_SEEDING = threading.Lock()


class Network(nn.Module):
    """The reward r(a) of an image: two convolutions, two hidden layers, clipped to ±`CLIP`.

    Source: the authors' released code. Check: tests/studies/test_mnist_grid.py, layer by layer.
    """

    def __init__(self) -> None:
        super().__init__()
        # 28×28 → 24×24 → pool 12×12 → 8×8 → pool 4×4, with 16 channels: 256 features. The order of
        # these lines matters, since it is the order in which the initial weights are drawn.
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(256, 64)
        self.norm1 = nn.BatchNorm1d(64)
        self.fc2 = nn.Linear(64, 64)
        self.norm2 = nn.BatchNorm1d(64)
        self.fc3 = nn.Linear(64, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, images: Tensor) -> Tensor:
        """Rewards `(images,)` of `images` `(images, 1, 28, 28)` in [0, 1]."""
        hidden = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), 2).flatten(1)
        hidden = self.dropout(hidden)
        hidden = self.dropout(functional.relu(self.norm1(self.fc1(hidden))))
        hidden = self.dropout(functional.relu(self.norm2(self.fc2(hidden))))
        # Beyond the bound the gradient is 0, so a reward cannot grow without limit.
        return self.fc3(hidden).squeeze(1).clamp(-CLIP, CLIP)


def initial_network(seed: int) -> Network:
    """The network from which every model of `seed` starts."""
    # PyTorch's layers draw from the global generator alone; the caller's is put back afterwards.
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network()


def draw_masks(images: int, generator: torch.Generator) -> Tensor:
    """Dropout masks `(384, images)`: 0, or 1 / (1 − `DROPOUT`), for the units of `DROPPED`.

    Dividing by the share that is kept leaves the mean of a unit as it is.
    """
    # Drawn apart from the network, because all models of a seed share their masks: they then differ
    # in loss and noise alone.
    uniform = torch.rand(sum(DROPPED), images, generator=generator, device=generator.device)
    return uniform.ge_(DROPOUT).div_(1 - DROPOUT)
