#!/usr/bin/python3
"""The window as a person uses it: a real X server, mouse and keys.

Usage: tests/tour.py PROGRAM [FOLDER FOR PICTURES]

What is pressed is found as a screen reader finds it, by its name on the accessibility bus, and waited for until it is
there, can be used and stays in its place. Fails if something cannot be found, leaves no trace, or if the window shows
nothing. Needs Debian's xvfb xdotool imagemagick dbus-daemon at-spi2-core python3-gi gir1.2-atspi-2.0 (for the system's
own Python) and a graphics driver (mesa-vulkan-drivers).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


# Where the panes end and the timeline begins.
PANES_END = 730


class Failed(Exception):
    """A step that did not do what it should."""


def wait_for(what, look, seconds=30):
    """Until `look` finds something, which is returned."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise Failed(f"waited {seconds} s for: {what}")
        time.sleep(0.2)
    return found


def did(what):
    print(f"tour: {what}", flush=True)


def xdotool(*words):
    subprocess.run(["xdotool", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def keys(*names):
    xdotool("key", "--delay", 80, *names)


class Screen:
    """What programs show, on the accessibility bus."""

    def __init__(self):
        import gi

        gi.require_version("Atspi", "2.0")
        from gi.repository import Atspi, Gio, GLib

        self.atspi, self.gone = Atspi, GLib.Error
        # As a screen reader does when it starts: programs tell what they show only if somebody asks.
        asks = GLib.Variant("(ssv)", ("org.a11y.Status", "IsEnabled", GLib.Variant("b", True)))
        place = ("org.a11y.Bus", "/org/a11y/bus", "org.freedesktop.DBus.Properties", "Set")
        Gio.bus_get_sync(Gio.BusType.SESSION).call_sync(*place, asks, None, 0, -1, None)
        Atspi.init()

    def parts(self, above=None):
        above = above or self.atspi.get_desktop(0)
        for place in range(above.get_child_count()):
            part = above.get_child_at_index(place)
            if part is not None:
                yield part
                yield from self.parts(part)

    def names(self):
        try:
            return [name[:60] for part in self.parts() if (name := part.get_name())]
        except self.gone:
            return []

    def find(self, name, role=None):
        """The first part of this name; `…` at an end of it stands for anything there. Without a role: any."""
        middle = name.strip("…")
        fits = {
            (False, False): lambda found: found == middle,
            (False, True): lambda found: found.startswith(middle),
            (True, False): lambda found: found.endswith(middle),
            (True, True): lambda found: middle in found,
        }[name.startswith("…"), name.endswith("…") and len(middle) > 1]
        try:
            self.atspi.get_desktop(0).clear_cache()
            for part in self.parts():
                if fits(part.get_name() or "") and role in (None, part.get_role_name()):
                    return part
        except self.gone:
            pass  # It went while it was looked at.
        return None

    def see(self, name, seconds=30):
        return wait_for(f"'{name}' to be seen", lambda: self.find(name), seconds)

    def has_keys(self, name, role=None):
        """Whether what is typed goes there."""
        part = self.find(name, role)
        try:
            return part is not None and part.get_state_set().contains(self.atspi.StateType.FOCUSED)
        except self.gone:
            return False

    def place(self, name, role=None, scrolls=False):
        """The middle of what can be used, once it can be and is at rest."""
        last = []

        def at_rest():
            part = self.find(name, role)
            try:
                if part is None or not part.get_state_set().contains(self.atspi.StateType.ENABLED):
                    return None
                box = self.atspi.Component.get_extents(part, self.atspi.CoordType.SCREEN)
            except self.gone:
                return None
            last.append((box.x, box.y, box.width, box.height))
            return last[-1] if last[-2:] == [last[-1]] * 2 else None

        def in_sight():
            box = at_rest()
            if box and box[1] + box[3] > PANES_END:
                # Below the end of its pane.
                xdotool("mousemove", box[0], PANES_END // 2, "click", "--repeat", 3, 5)
                return None
            return box

        x, y, width, height = wait_for(f"'{name}' to be there and usable", in_sight if scrolls else at_rest)
        return x + width // 2, y + height // 2

    def click(self, name, role=None, scrolls=False, holding=None):
        def under_pointer():
            there = self.place(name, role, scrolls)
            xdotool("mousemove", *there, "sleep", 0.2)
            # The pointer brings a new frame: what was told before it may have been on its way still.
            return there == self.place(name, role, scrolls)

        wait_for(f"'{name}' to stay under the pointer", under_pointer)
        if holding:
            xdotool("keydown", holding, "click", 1, "keyup", holding)
        else:
            xdotool("click", 1)

    def choose(self, parts, seen, tries=3):
        """Clicks one part after the other until something is seen, as a person does on a machine that is slow to answer:
        what was still on its way may have moved from under the pointer, or closed a list again."""
        for left in reversed(range(tries)):
            try:
                for part in parts:
                    self.click(*part)
                return self.see(seen, 30 if left == 0 else 10)
            except Failed:
                if left == 0:
                    raise
            keys("Escape")
            did(f"'{parts[-1][0]}' left no trace and is clicked again")


class Tour:
    def __init__(self, program, pictures, work):
        self.program, self.pictures, self.work = program, pictures, work
        self.home = Path(os.environ["HEADLIGHT_HOME"])
        self.window = None
        self.screen = Screen()

    def start(self):
        """A window with the keyboard on it."""
        with open(self.work / "window.log", "a") as log:
            self.window = subprocess.Popen([self.program, "--device", "cpu"], stdout=log, stderr=log)
        xdotool("search", "--sync", "--onlyvisible", "--name", "^Headlight$", "windowfocus")
        self.screen.see("Train")
        return self.window

    def picture(self, name):
        time.sleep(0.5)
        path = self.pictures / f"{name}.png"
        subprocess.run(["import", "-window", "root", path], check=True)
        colours = int(subprocess.check_output(["identify", "-format", "%k", path]))
        if colours <= 100:
            raise Failed(f"{name}: only {colours} colours, the window shows nothing")

    def settings(self):
        path = self.home / "settings.ron"
        return path.read_text() if path.is_file() else ""

    def steps(self):
        logs = self.home.glob("runs/*/metrics.jsonl")
        return sum(log.read_text().count('"kind":"step"') for log in logs)

    def type_path(self, path):
        """Into the path window; what is prefilled goes."""
        self.screen.see("Browse…")
        keys("ctrl+a")
        xdotool("type", "--delay", 8, path)

    def take(self):
        screen, window = self.screen, self.start()
        self.picture("01-started")

        screen.click("Train")
        wait_for("120 steps", lambda: self.steps() >= 120, 60)
        did("Train was clicked and the loss falls")
        self.picture("02-training")
        screen.click("Layer 3, head 2")
        screen.see("Layer 3 · Head 2")
        did("a clicked head is the large one")
        x, y = screen.place("Attention of layer 3, head 2")
        xdotool("mousemove", x - 20, y + 20)
        screen.see("… → …")
        did("a hovered cell says which token looks at which")
        self.picture("03-head-enlarged-and-hovered")

        keys("ctrl+o")
        self.type_path(self.work / "nowhere.txt")
        screen.see("There is no such file.")
        did("a path that leads nowhere is said to")
        self.picture("04-missing-text")
        keys("Escape")
        mine = self.work / "mine.txt"
        mine.write_text("".join(f"line {number} of a text of my own, to be learned by heart\n" for number in range(400)))
        wait_for("the path window to close", lambda: not screen.find("Browse…"))
        keys("ctrl+o")
        self.type_path(mine)
        screen.see("A file.")
        keys("Return")
        wait_for("mine.txt in the settings", lambda: "mine.txt" in self.settings())
        screen.see("mine.txt")
        did("the typed path is the text of the next run")
        wait_for("the path window to close", lambda: not screen.find("Browse…"))
        keys("ctrl+o")
        self.type_path(self.work / "min")
        screen.see("mine.txt, file")
        keys("Tab")
        screen.see("A file.")
        self.picture("05-path-completed")
        keys("Escape")
        did("Tab completed a typed path, and its folder was listed")
        self.picture("05-text-opened")

        screen.click("Sample", "push button")
        screen.see("Sample: Mira:…")
        screen.see("… · 300 tokens")
        did("a sample was written")
        self.picture("06-sampled")
        keys("ctrl+s")
        run = next(self.home.glob("runs/*"))
        wait_for("a checkpoint", (run / "checkpoint/last.safetensors").is_file)
        did("a checkpoint was saved")
        keys("ctrl+e")
        exported = self.work / "exported"
        self.type_path(exported)
        screen.see("It will be made.")
        keys("Return")
        wait_for("the exported folder", lambda: all((exported / file).is_file() for file in ["model.safetensors", "config.json"]))
        did("the weights were exported")
        self.picture("07-exported")

        keys("space")
        screen.see("Go on")
        before = self.steps()
        time.sleep(2)
        if self.steps() != before:
            raise Failed(f"Space did not pause: {before} steps, then {self.steps()}")
        did("Space paused the run")
        self.picture("08-paused")
        self.lab(run)
        self.fork(run)
        self.lesson()

        screen.click("Reset")
        screen.click("Train")
        screen.see("Pause")
        keys("ctrl+q")
        screen.see("Save and quit")
        self.picture("17-asked-before-closing")
        if window.poll() is not None:
            raise Failed("the window closed in the middle of training without asking")
        keys("Return")
        if window.wait(timeout=30):
            raise Failed("the program ended with an error")
        did("the run was saved and the window closed")
        subprocess.run([self.program, "evaluate", run], check=True)

        for number in (signal.SIGTERM, signal.SIGHUP):
            self.signalled(number)

    def signalled(self, number):
        """What the system says at log-out: the run is saved, and the window closes by itself."""
        window, before = self.start(), set(self.home.glob("runs/*"))
        self.screen.click("Train")
        run = wait_for("a run", lambda: next(iter(set(self.home.glob("runs/*")) - before), None))
        steps = lambda: [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"kind":"step"' in line]
        wait_for("40 steps", lambda: (run / "metrics.jsonl").is_file() and len(steps()) >= 40, 60)
        window.send_signal(number)
        if window.wait(timeout=30):
            raise Failed(f"{number.name} ended the program with an error")
        last = json.loads(steps()[-1])["step"]
        saved = json.loads(subprocess.check_output([self.program, "evaluate", run, "--json"]))["step"]
        if saved != last:
            raise Failed(f"{number.name}: step {last} was trained, and step {saved} saved")
        resumed = [self.program, "resume", run, "--device", "cpu", "--stop-at", str(last + 1), "--json"]
        if f'"step":{last + 1}' not in subprocess.check_output(resumed, text=True):
            raise Failed(f"{number.name}: the run did not go on from step {last}")
        did(f"{number.name} saved the run at step {last} and closed the window")

    def lab(self, run):
        screen = self.screen
        keys("comma")
        keys("comma")
        screen.click("Pin this step")
        screen.see("Pinned: step …")
        keys("l")
        screen.click("Difference")
        screen.see("… pinned …")
        did("a kept step is pinned and held against the live model")
        self.picture("10-beside-the-pinned-step")
        screen.click("Unpin")
        screen.click("Roles")
        screen.click("Effect of every head")
        screen.see("… · effect at step …", 60)
        did("the effect of every head was measured")
        self.picture("11-roles-and-effects")
        screen.click("Attention: all heads")
        screen.click("Logit lens")
        screen.click("after layer 2, position 26: …")
        screen.see("sum of the parts …")
        did("the lens tells the prediction after a layer, and the parts of a logit")
        self.picture("12-lens")
        screen.click("Head on the words")
        screen.see("Token 3: …")
        did("the head is shown on the words")
        self.picture("13-head-on-the-words")
        screen.click("Layer 3 · Head 2")

        x, y = screen.place("Attention of layer 3, head 2")
        xdotool("mousemove", x - 20, y + 20, "sleep", 0.2, "keydown", "ctrl", "click", 1, "keyup", "ctrl")
        screen.see("1 weight is cut")
        screen.see("Next token after …")
        did("a weight was cut, and what that does to the prediction is told")
        keys("ctrl+z")
        wait_for("the weight to be whole again", lambda: not screen.find("1 weight is cut"))
        keys("comma")
        keys("comma")
        screen.click("Layer 2, head 2", holding="ctrl")
        screen.see("1 head off: validation loss …")
        did("a head was switched off, and what that costs is told")
        self.picture("14-a-head-switched-off")
        screen.click("Prune")
        pruned = run.with_name(f"{run.name}-pruned")
        wait_for("the run without that head", (pruned / "recipe.ron").is_file)
        subprocess.run([self.program, "heads", pruned], check=True)
        did("the run without that head was made, and opens")
        keys("ctrl+z")
        screen.see("made: …")
        did("Ctrl+Z switched it on again")

    def fork(self, run):
        screen = self.screen
        screen.click("Fork")
        screen.click("Fork here")
        fork = wait_for("a fork", lambda: next(self.home.glob(f"runs/{run.name}-from-*/recipe.ron"), None))
        screen.see(f"{run.name}, forked from it at step …")
        did("a fork was made, with its parent's curve")
        self.picture("15-forked")
        before = self.steps()
        keys("space")
        wait_for("20 more steps", lambda: self.steps() >= before + 20)
        keys("space")
        screen.see("Go on")
        did("Space went on with it, and paused it")

        # The text that was opened meanwhile made the recipe another one than the fork's.
        screen.see("Opened run")
        screen.click("Use this recipe")
        screen.click("Learning rate", "spin button", scrolls=True)
        wait_for("the number to be edited", lambda: screen.has_keys("Learning rate", "spin button"))
        keys("ctrl+a")
        xdotool("type", "0.00025")
        keys("Return")
        wait_for("the number to be taken", lambda: not screen.has_keys("Learning rate", "spin button"))
        keys("comma")
        screen.click("Fork")
        screen.click("Fork with the recipe's settings")
        changed = f"runs/{fork.parent.name}-from-*/recipe.ron"
        changed = wait_for("a fork of the fork", lambda: next(self.home.glob(changed), None))
        if "learning_rate: 0.00025" not in changed.read_text():
            raise Failed("the changed learning rate is not the fork's")
        screen.see(f"{fork.parent.name}, forked from it at step …")
        did("another fork learns at the rate that was typed")

    def lesson(self):
        """Steps 1 to 3 of the README's five minutes."""
        screen = self.screen
        before = set(self.home.glob("runs/*"))
        screen.click("Reset")
        # A pointer that goes on before the click was seen takes it along.
        screen.see("Train")
        xdotool("mousemove", 100, 500, "click", "--repeat", 20, 4)  # Up to the top of the recipe again.
        screen.choose([("Preset", "combo box"), ("Induction: …",)], "Induction lesson")
        screen.click("Train")
        # What lies above the timeline moves when that comes.
        screen.see("Kept steps")
        screen.choose([("Roles",)], "Scores at step …")
        screen.see("all steps done", 300)
        screen.see("…  accuracy 1.0000…")
        self.picture("16-lesson")
        run = (set(self.home.glob("runs/*")) - before).pop()
        scores = json.loads(subprocess.check_output([self.program, "heads", run, "--json"]))
        if max(map(max, scores["induction"])) < 0.4:
            raise Failed(f"no induction head: {scores}")
        did("the lesson ends with every problem right and an induction head")

def main(program, pictures=None):
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        pictures = Path(pictures or work / "pictures")
        for folder in [pictures, work / "home"]:
            folder.mkdir(parents=True, exist_ok=True)
        os.environ.update(HEADLIGHT_HOME=str(work / "home"), GSETTINGS_BACKEND="memory")
        # The number of the display that is free.
        read, write = os.pipe()
        options = ["-displayfd", write, "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
        server = subprocess.Popen(["Xvfb", *map(str, options)], pass_fds=[write], stderr=subprocess.DEVNULL)
        tour = None
        try:
            os.environ["DISPLAY"] = f":{os.read(read, 16).decode().strip()}"
            tour = Tour(program, pictures, work)
            tour.take()
            did(f"done, pictures in {pictures}")
        except (Failed, subprocess.SubprocessError) as error:
            subprocess.run(["import", "-window", "root", pictures / "failed.png"], check=False)
            print("tour: on the screen:", " | ".join(tour.screen.names()))
            sys.exit(f"tour: {error}\n{(work / 'window.log').read_text()[-2000:]}")
        finally:
            for process in [tour and tour.window, server]:
                if process:
                    process.kill()
                    process.wait()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if "DBUS_SESSION_BUS_ADDRESS" not in os.environ or os.environ.get("HEADLIGHT_TOUR") != "1":
        # A bus of its own, which ends with it. The accessibility bus puts its socket into the runtime folder: in the user's
        # own it would take the place of the one that is there, and other programs' windows, or another tour's, would be gone.
        os.environ["HEADLIGHT_TOUR"] = "1"
        with tempfile.TemporaryDirectory() as runtime:
            os.environ["XDG_RUNTIME_DIR"] = runtime
            sys.exit(subprocess.run(["dbus-run-session", "--", sys.executable, *sys.argv]).returncode)
    main(os.path.abspath(sys.argv[1]), *sys.argv[2:])
