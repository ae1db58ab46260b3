"""What all tests begin with."""

import signal

# A shell starts what it sends to the background with these ignored, and processes hand that on:
# tests that interrupt a command would wait for it in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
