"""What happens to a frame's alpha between the network and the output.

In the order in which a frame meets them: ``cuts`` tells where a shot begins; ``mirrored``
makes one matte of two looks at a frame. The temporal filter is ``follow`` (the soft edge by
``refine``, the motion by ``flow`` and ``spread``) and ``steady`` (the ``window`` of frames that
``average`` mixes; ``conviction`` and ``solve`` for what is in doubt). Then come the ``controls``,
which ``by_hand`` takes from the settings, and ``quality``, which only looks. ``foreground`` finds
the colours that belong to the alpha, when an output is made. ``box`` and ``wide`` are tools.
"""
