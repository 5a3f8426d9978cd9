"""Images, masks, annotations and manifests as files."""
