"""What FFmpeg reads or writes wrongly, one file a container or picture format, both directions."""
