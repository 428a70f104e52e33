"""The CUDA module of gramian, which loads it at the first array on a GPU. Nothing to call here."""
