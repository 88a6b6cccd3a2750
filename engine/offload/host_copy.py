"""HostCopies: pods offloaded as plain bytes to host memory, and back on the device within milliseconds."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.kvcache.quantized import AnyPod
from engine.offload import tensor_tree

SLAB_BYTES = 32 << 20
"""Pinned memory is slow to make, and PyTorch rounds it up to a power of two: pieces of one size are used again."""
_ALIGNMENT = 512
_NOTHING = torch.empty(0)


@dataclass(frozen=True)
class _Place:
    """Where a tensor stands among the bytes of its pod: offset in elements of its dtype."""

    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class HostCopy:
    """The bytes of a pod in slabs of host memory, and what makes a pod of them again."""

    slabs: tuple[Tensor, ...]
    num_bytes: int
    places: tuple[_Place, ...]
    hollow: AnyPod
    """The pod around tensors that hold nothing."""

    @property
    def nbytes(self) -> int:
        """Host memory that this takes."""
        return sum(each.nbytes for each in self.slabs)


def held_bytes(pod: AnyPod) -> int:
    """Memory that a pod keeps from any other use: whole storages, also where its tensors look at a part only."""
    return sum(_storages(pod).values())


class HostCopies:
    """Between one device and host memory, which is pinned where the device is a GPU."""

    def __init__(self, device: torch.device, slab_bytes: int = SLAB_BYTES) -> None:
        self.device = device
        self._slab_bytes = slab_bytes
        self._pinned = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._pinned else None  # type: ignore[no-untyped-call]

    def offload(self, pod: AnyPod) -> HostCopy:
        """A copy of a pod in host memory; returns when it is whole."""
        starts, num_bytes = {}, 0
        for storage, size in _storages(pod).items():
            starts[storage] = num_bytes
            num_bytes += size + -size % _ALIGNMENT
        places, sources = [], {}
        for tensor in tensor_tree.tensors(pod):
            storage = tensor.untyped_storage().data_ptr()
            # An empty tensor may have no storage at all.
            start = starts.get(storage, 0) // tensor.dtype.itemsize
            offset = start + int(tensor.storage_offset()) if tensor.numel() else 0
            places.append(_Place(tensor.dtype, tensor.shape, tensor.stride(), offset))
            sources[storage] = tensor
        sizes = (min(self._slab_bytes, num_bytes - start) for start in range(0, num_bytes, self._slab_bytes))
        slabs = [self._slab(size) for size in sizes]
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            for storage, start in starts.items():
                self._copy(_bytes(sources[storage]), start, slabs, into_slabs=True)
        if self._stream is not None:
            self._stream.record_event().synchronize()
        hollow = tensor_tree.around(pod, [_NOTHING] * len(places))
        return HostCopy(tuple(slabs), num_bytes, tuple(places), hollow)

    def restore(self, parked: HostCopy) -> AnyPod:
        """The pod on the device, in one piece of memory; whatever the current stream does next finds it whole."""
        flat = torch.empty(parked.num_bytes, dtype=torch.uint8, device=self.device)
        if self._stream is not None:
            current = torch.cuda.current_stream(self.device)
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                self._copy(flat, 0, parked.slabs, into_slabs=False)
            current.wait_stream(self._stream)
        else:
            self._copy(flat, 0, parked.slabs, into_slabs=False)
        typed = {dtype: flat.view(dtype) for dtype in {each.dtype for each in parked.places}}
        tensors = (typed[each.dtype].as_strided(each.shape, each.stride, each.offset) for each in parked.places)
        return tensor_tree.around(parked.hollow, tensors)

    def _copy(self, flat: Tensor, start: int, slabs: "list[Tensor] | tuple[Tensor, ...]", into_slabs: bool) -> None:
        """Between bytes of a device and the range of all slabs that begins at `start`."""
        done = 0
        while done < len(flat):
            number, offset = divmod(start + done, self._slab_bytes)
            count = min(len(flat) - done, self._slab_bytes - offset)
            there, here = flat[done : done + count], slabs[number][offset : offset + count]
            if into_slabs:
                here.copy_(there, non_blocking=True)
            else:
                there.copy_(here, non_blocking=True)
            done += count

    def _slab(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)


def _storages(pod: AnyPod) -> dict[int, int]:
    """Bytes of each piece of memory that the pod's tensors look at, by address."""
    found = (tensor.untyped_storage() for tensor in tensor_tree.tensors(pod))
    return {each.data_ptr(): each.nbytes() for each in found if each.nbytes()}


def _bytes(tensor: Tensor) -> Tensor:
    """All bytes of a tensor's storage, (N,)."""
    storage = tensor.untyped_storage()
    whole = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return whole.set_(storage, 0, (storage.nbytes(),), (1,))
