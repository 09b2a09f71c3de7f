"""One torch thread: the tests run in several processes, and small maps gain nothing from more."""

import torch

torch.set_num_threads(1)
