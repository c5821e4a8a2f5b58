"""One thread, so that timings and sums do not depend on the machine; and the same chance for every test."""

import pytest
import torch

pytest.register_assert_rewrite("laws")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
