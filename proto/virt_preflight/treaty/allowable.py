"""What a rehearsal may touch though others will notice, when its caller says so: in his words."""

HOOKS = "hooks"
OPEN_VSWITCH = "open-vswitch"
ALLOWABLE = (HOOKS, OPEN_VSWITCH)
