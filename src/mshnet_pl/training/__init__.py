"""The LightningModule, its loss, callbacks and loggers."""
