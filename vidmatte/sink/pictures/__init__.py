"""Results that are pictures: a folder of them, or one."""
