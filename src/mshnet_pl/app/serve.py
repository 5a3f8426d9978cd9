"""A checkpoint's page on a port of this machine."""

from pathlib import Path

from mshnet_pl.errors import ConfigError
from mshnet_pl.inference.segmenter import Segmenter


def serve(
    ckpt: Path,
    port: int = 7860,
    host: str = "127.0.0.1",
    max_upload_mb: int = 20,
    device: str | None = None,
    share: bool = False,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        ckpt: a checkpoint of ``mshnet-train``.
        port: must be free.
        host: the address to listen at.
        max_upload_mb: the largest file that a visitor may upload, in MiB.
        device: such as ``cpu`` or ``cuda:1``; CUDA where there is one, by default.
        share: offer the page at a public address too.

    Raises:
        ConfigError: no such checkpoint, a port that cannot be used, or no Gradio.
    """
    try:
        from mshnet_pl.app.page import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ConfigError("mshnet-app needs Gradio: pip install 'mshnet_pl[app]'") from error
    network = Segmenter.from_checkpoint(ckpt, device)
    try:
        launch(network.fresh, host, port, max_upload_mb, share)
    except OSError as error:
        raise ConfigError(f"host={host} port={port}: {error}; give another port or host") from error
