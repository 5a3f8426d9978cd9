"""Settings of runs that are as small as can be, for tests of what is around the network."""

TINY_RUN = (
    "data.image_size=32", "data.batch_size=2", "trainer.max_steps=2", "test.episodes=2", "test.pictures=0", "logger=none",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
)  # fmt: skip
"""Of any method on any data set."""
TINY = (*TINY_RUN, "model.width=4", "data.source.size=32", "data.source.train_images=16")
"""Of MSHNet on synthetic images."""
