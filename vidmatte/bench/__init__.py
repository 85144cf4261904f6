"""How fast this machine is: each stage alone, then the pipeline, against what the cores allow.

``stages`` runs them on a ``clip`` that is made for it, ``meter`` says what they cost.
"""
