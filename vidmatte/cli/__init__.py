"""The command line: ``main`` has the commands, and most have a module of their name.

``matte`` is the command without a name; ``formats`` and ``verify`` are in ``info``. ``options``
makes flags of the table in ``settings``, ``help`` the page that lists them. ``outputs`` finds out
where results go, ``ending`` words how a call ends that fails.
"""
