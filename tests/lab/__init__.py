"""Real libvirt hosts on one Linux machine, to see whether a verdict was true.

    python -m tests.lab up                      six hosts with the checkout's agent on each
    python -m tests.lab exec h1 -- virsh list   on a host; on `switch`, where the operator sits
    python -m tests.lab run nic-bridge-absent   arrange it, ask, really migrate, compare
    python -m tests.lab score                   the same for all scenarios, with the score
    python -m tests.lab down
    pytest -m lab                               all scenarios as tests

As root, on a Debian with /dev/kvm (or slower, without). `machine` is what there is to build on,
`roots` are the hosts' file systems, `silicon` their CPU, `hosts` the lab itself, `guests` what
migrates, `programs` what runs in it, `faults` what stands in the way, `scenarios` the stories,
`observe` and `traces` whether asking changed anything, `score` whether virt-preflight was right,
`tally` how often.
"""
