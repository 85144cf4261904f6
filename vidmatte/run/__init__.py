"""A run: from a source, a model and an output's name to a result.

``job`` does one input and says what came of it. ``path`` wires the stages, ``pipeline`` runs
each on its thread, with a ``channel`` between two; the frames travel in the slots of a ``ring``.
``report`` and ``events`` tell the user, ``resume`` and ``finished`` go on with earlier work.
"""
