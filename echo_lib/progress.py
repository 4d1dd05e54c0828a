"""Plain-text progress with time left: one line at a time, readable in a log and in a notebook."""

import time


class Progress:
    """Prints at most one line every ``every_s`` seconds, and always the last one.

    Args:
        what: begins each line.
        total: how many units there are.
        done: how many were done before this process began.
        unit: singular name of a unit.
    """

    def __init__(self, what, total, *, done=0, unit="item", every_s=10.0):
        self.what, self.total, self.first, self.unit = what, total, done, unit
        self.every_s, self.begun, self.shown = every_s, time.monotonic(), -float("inf")

    def show(self, done, note=""):
        """Report that ``done`` units are finished."""
        now = time.monotonic()
        if done < self.total and now - self.shown < self.every_s:
            return
        self.shown = now
        seconds = (now - self.begun) / max(1, done - self.first)
        left = seconds * (self.total - done)
        print(
            f"{self.what}: {done}/{self.total} {self.unit}s, {seconds:.3g} s each, "
            f"{_duration(left)} left{', ' + note if note else ''}",
            flush=True,
        )


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
