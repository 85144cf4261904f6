"""How fast this machine is: each stage alone, then the pipeline, against what the cores allow."""
