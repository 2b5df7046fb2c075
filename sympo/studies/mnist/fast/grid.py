"""Many reward networks as one: their parameters stacked, their batches shared."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from sympo import losses
from sympo.studies.mnist.fast.convolutions import convolve, expand_first, expand_second
from sympo.studies.mnist.network import CLIP, DROPPED, Network

if TYPE_CHECKING:
    from sympo.studies.mnist.fast.tiles import Spare


class Grid:
    """Many `Network`s with stacked parameters; those of one seed see the same images.

    Args:
        networks: one per seed, which gives all its models their initial weights, and the dtype and
            device.
        models: how many for each seed.
        clip: the bound on the rewards, one for all models or `(seeds·models, 1)`.
    Attributes:
        parameters: name in `Network` → `(seeds·models, …)`.
        statistics: running mean and variance of the batch norms, `(seeds·models·64,)` each.
    Check: notebook 05 and tests/studies/test_mnist_grid.py, against models trained one at a time.
    """

    def __init__(self, *networks: Network, models: int, clip: float | Tensor = CLIP) -> None:
        # `clamp` takes either, and its types say so of no union of them.
        self._clip: Any = clip
        values = [network.state_dict() for network in networks]
        # All models of the first seed, then all of the second, and so on.
        stacked = {
            name: torch.stack([value[name] for value in values]).repeat_interleave(models, 0)
            for name in values[0]
        }
        self.parameters: dict[str, Tensor] = {
            name: stacked[name].requires_grad_() for name, _ in networks[0].named_parameters()
        }
        # Flat, as `_normalise` needs them: it updates them in place, so they cannot be reshaped
        # there.
        self.statistics: dict[str, Tensor] = {
            name: value.flatten()
            for name, value in stacked.items()
            if name.endswith(("mean", "var"))
        }
        # Memory that `TiledConvolve` uses again, on a processor.
        self._spare: Spare = {}

    def rewards(
        self, images: Tensor, *, masks: Tensor | None = None, training: bool = False
    ) -> Tensor:
        """Rewards `(seeds·models, images)` of `images` `(seeds, 28, 28, images)` in [0, 1].

        Args:
            images: with a first axis of 1, all models see the same.
            masks: dropout masks `(seeds, 384, images)`, of `draw_masks` for each seed; None: no
                dropout.
            training: the batch norms use, and remember, the mean and variance of these images;
                otherwise those that they remember.
        """
        on_features, *on_hidden = _split(masks)
        features = self._convolve(images, on_features)
        return self._read(features, on_hidden, training=training)

    def rewards_without_and_with(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """`rewards(images)` and `rewards(images, masks=masks)`, with half of the convolutions."""
        features = self._convolve(images, None)
        on_features, *on_hidden = _split(masks)
        without = self._read(features, [None, None], training=False)
        return without, self._read(_drop(features, on_features), on_hidden, training=False)

    def _read(self, features: Tensor, masks: Sequence[Tensor | None], *, training: bool) -> Tensor:
        """The rewards of images with these features, and with these masks on both hidden layers."""
        hidden = features
        # Hidden units are `(models, 64, images)`: every step is one operation for all models.
        for layer, mask in enumerate(masks, 1):
            hidden = self._multiply(f"fc{layer}", hidden)
            normalised = self._normalise(f"norm{layer}", hidden, training=training)
            hidden = _drop(functional.relu(normalised), mask)
        return self._multiply("fc3", hidden).squeeze(1).clamp(-self._clip, self._clip)

    def _convolve(self, images: Tensor, masks: Tensor | None) -> Tensor:
        """Features `(seeds·models, 256, images)`, after dropout."""
        names = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
        weight1, bias1, weight2, bias2 = (self.parameters[name] for name in names)
        # Tiles hold the images of one seed, with its masks. Several together on a processor, which
        # only tests and no study ask for, take the way of a GPU.
        one_seed = len(images) == 1 and (masks is None or len(masks) == 1)
        if images.device.type == "cpu" and one_seed:
            # Imported only here because it needs numba, which a GPU does without.
            from sympo.studies.mnist.fast.tiles import TiledConvolve

            shared = None if masks is None else masks[0]
            parameters = [weight1, bias1, weight2, bias2]
            if not torch.is_grad_enabled():
                # Or it would keep what no backward pass will ask for: a quarter of its time.
                parameters = [parameter.detach() for parameter in parameters]
            return TiledConvolve.apply(images[0], shared, *parameters, self._spare)
        # Anew for every batch, and inside autograd: gradients flow back to the 5×5 kernels, where
        # the four shifts of a kernel add up.
        weights = (expand_first(weight1), bias1, expand_second(weight2), bias2)
        return _drop(convolve(images, *weights), masks)

    def _multiply(self, name: str, hidden: Tensor) -> Tensor:
        """The linear layer `name` of each model: `(models, inputs, images)` → `(…, outputs, …)`."""
        # A batch of matrix products, one for each model, with the bias added in the same pass.
        bias = self.parameters[f"{name}.bias"][:, :, None]
        return torch.baddbmm(bias, self.parameters[f"{name}.weight"], hidden)

    def _normalise(self, name: str, hidden: Tensor, *, training: bool) -> Tensor:
        """The batch norm `name` of each model, over its own images."""
        mean = self.statistics[f"{name}.running_mean"]
        # PyTorch normalises each channel over the batch and its length. With every unit of every
        # model as a channel, and the images as the length of a batch of one, a single call keeps
        # all of them apart.
        flat = hidden.reshape(1, len(mean), -1)
        return functional.batch_norm(
            flat,
            mean,
            self.statistics[f"{name}.running_var"],
            self.parameters[f"{name}.weight"].flatten(),
            self.parameters[f"{name}.bias"].flatten(),
            training=training,
        ).view_as(hidden)


def _split(masks: Tensor | None) -> Sequence[Tensor | None]:
    """The masks of each layer that dropout strikes."""
    return [None] * len(DROPPED) if masks is None else masks.split(DROPPED, 1)


def _drop(hidden: Tensor, masks: Tensor | None) -> Tensor:
    """`hidden` `(seeds·models, units, images)` times `masks` `(seeds, units, images)`."""
    if masks is None:
        return hidden
    # All models of a seed drop the same units.
    return (hidden.unflatten(0, (len(masks), -1)) * masks[:, None]).flatten(0, 1)


def load_batch(images: Tensor, rows: Tensor) -> Tensor:
    """Images at `rows`, as a grid reads them: in [0, 1], and with images as the last axis.

    Args:
        images: `(seeds, images, 28, 28)`, uint8.
        rows: `(seeds, rows)`.
    Returns:
        `(seeds, 28, 28, rows)` of the default dtype.
    """
    # Transposed as bytes, which moves a quarter of the memory that floats would.
    batches = [each[row].flatten(1).T.contiguous() for each, row in zip(images, rows, strict=True)]
    pixels = torch.stack(batches).to(torch.get_default_dtype()).div_(255)
    return pixels.unflatten(1, (28, 28))


def margin_loss(margins: Tensor, names: Sequence[str]) -> Tensor:
    """The mean loss of each model over its pairs, `(…, models)`.

    Args:
        margins: `(…, models, pairs)`.
        names: the loss of each model; models with the same loss stand side by side.
    """
    means = []
    start = 0
    # Neighbours with one loss are one call, since each costs a GPU several launches.
    for name, group in groupby(names):
        stop = start + len(list(group))
        means.append(losses.get(name).fn(margins[..., start:stop, :]).mean(-1))
        start = stop
    return torch.cat(means, -1)
