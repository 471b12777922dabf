"""Which accelerators there are, and how a process gets one of them for itself."""

from __future__ import annotations

import os

import pytest
import torch

from bsadvisor.errors import TargetError
from bsadvisor.target.device import accelerators, find_device, see_only


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("name", [None, "cuda"])
def test_all_are_taken_where_none_is_named_by_its_number(name: str | None) -> None:
    assert accelerators(name) == ("cuda:0", "cuda:1", "cuda:2")


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("name", ["cuda:1", "cpu", "mps", "toaster"])
def test_one_that_is_named_is_that_one_only(name: str) -> None:
    assert accelerators(name) == ()


@pytest.mark.parametrize("name", [None, "cuda"])
def test_there_are_none_without_cuda(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert accelerators(name) == ()


@pytest.mark.usefixtures("three")
def test_devices_are_found_by_name() -> None:
    assert find_device(None) == torch.device("cuda")
    assert find_device("cuda:2") == torch.device("cuda:2")
    with pytest.raises(TargetError, match="no device `cuda:3`"):
        find_device("cuda:3")


@pytest.mark.parametrize(
    ("visible", "device", "then"),
    [
        (None, "cuda:1", "1"),
        ("", "cuda:0", "0"),
        ("2,3", "cuda:1", "3"),
        ("GPU-8932f937, GPU-a1", "cuda:1", "GPU-a1"),
        ("2,3", "cpu", "2,3"),
        (None, "cpu", None),
    ],
)
def test_a_process_sees_the_one_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, then: str | None
) -> None:
    """Of those that the user lets it see."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    see_only(device)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == then


def test_with_rocm_the_list_of_its_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.0")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    see_only("cuda:1")
    assert os.environ["HIP_VISIBLE_DEVICES"] == "5"
