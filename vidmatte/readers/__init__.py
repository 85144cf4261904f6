"""Where frames come from: movies, folders of pictures, single pictures."""
