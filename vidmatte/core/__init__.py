"""What every room builds on: frames and clips, colour tags, timecode, names, threads, memory."""
