"""Episodes as tensors: data sets, loaders, caches, augmentation."""
