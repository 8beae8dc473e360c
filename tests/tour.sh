#!/usr/bin/env bash
# The window as a person uses it: a real X server, mouse and keys. Fails if a step leaves no trace on disk or the
# window shows nothing. Usage: tests/tour.sh PROGRAM [FOLDER FOR PICTURES]
# Needs: Xvfb xdotool imagemagick, and a graphics driver (Debian: mesa-vulkan-drivers).
set -euo pipefail
program=$(realpath "$1")
work=$(mktemp -d)
pictures=${2:-$work/pictures}
mkdir -p "$pictures" "$work/home"
export HEADLIGHT_HOME="$work/home" XDG_RUNTIME_DIR="$work"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

fail() {
    echo "tour: $1" >&2
    import -window root "$pictures/failed.png" || true
    tail -n 20 "$work/window.log" >&2 || true
    exit 1
}
# Waits until a command succeeds, at most so many seconds.
wait_for() {
    local seconds=$1 what=$2
    shift 2
    for ((i = 0; i < seconds * 5; i++)); do
        "$@" >/dev/null 2>&1 && { echo "tour: $what"; return; }
        sleep 0.2
    done
    fail "waited $seconds s for: $what"
}
picture() {
    sleep 0.7
    import -window root "$pictures/$1.png"
    local colours
    colours=$(identify -format %k "$pictures/$1.png")
    ((colours > 100)) || fail "$1: only $colours colours, the window shows nothing"
}
click() { xdotool mousemove "$1" "$2" sleep 0.2 click 1 sleep 0.2; }
keys() { xdotool key --delay 60 "$@" sleep 0.2; }
# Fills the path window: what is prefilled goes.
type_path() { xdotool sleep 0.6 key ctrl+a sleep 0.1 type --delay 8 "$1"; xdotool sleep 0.6 key Return sleep 0.3; }
steps() { cat "$work"/home/runs/*/metrics.jsonl 2>/dev/null | grep -c '"kind":"step"'; }
steps_at_least() { (($(steps) >= $1)); }

Xvfb -displayfd 3 -screen 0 1280x800x24 -nolisten tcp 3>"$work/display" 2>/dev/null &
wait_for 20 'an X server' test -s "$work/display"
DISPLAY=":$(cat "$work/display")"
export DISPLAY
"$program" --device cpu >"$work/window.log" 2>&1 &
window_process=$!
wait_for 30 'the window is there' xdotool search --onlyvisible --name '^Headlight$'
window=$(xdotool search --onlyvisible --name '^Headlight$' | head -n 1)
xdotool windowfocus "$window"
sleep 2
picture 01-started

click 58 53
wait_for 60 'Train was clicked and the loss falls' steps_at_least 120
picture 02-training

click 638 632
wait_for 10 'a clicked head is the large one' grep -Eq '(layer|head): [1-9]' "$work/home/settings.ron"
xdotool mousemove 985 400
picture 03-head-enlarged-and-hovered

keys ctrl+o
type_path "$work/nowhere.txt"
picture 04-missing-text
keys Escape
sleep 0.5

seq -f 'line %g of a text of my own, to be learned by heart' 1 400 >"$work/mine.txt"
keys ctrl+o
type_path "$work/mine.txt"
wait_for 10 'the typed path is the text of the next run' grep -q 'mine.txt' "$work/home/settings.ron"
picture 05-text-opened

click 890 612
sleep 4
picture 06-sampled

keys ctrl+s
wait_for 20 'a checkpoint was saved' compgen -G "$work/home/runs/*/checkpoint/last.safetensors"
keys ctrl+e
type_path "$work/exported"
wait_for 20 'the weights were exported' test -s "$work/exported/model.safetensors"
test -s "$work/exported/config.json" || fail 'config.json was not exported'
picture 07-exported

keys space
sleep 1
before=$(steps)
sleep 2
after=$(steps)
((before == after)) || fail "Space did not pause: $before steps, then $after"
echo 'tour: Space paused the run'
picture 08-paused

run=$(echo "$work"/home/runs/*)
wait_for 10 'steps are kept' compgen -G "$run/snapshots/step-*.safetensors"
keys comma comma
picture 09-an-earlier-step
click 1084 751
keys l
picture 10-beside-the-pinned-step
click 1193 751
click 508 423
click 596 455
sleep 3
picture 11-roles-and-effects
click 408 423
click 1172 99
click 900 200
picture 12-lens
click 1043 99
picture 13-head-on-the-words
click 910 99
keys comma comma
xdotool mousemove 563 605 sleep 0.2 keydown ctrl click 1 keyup ctrl sleep 1
picture 14-a-head-switched-off
click 694 509
wait_for 20 'the run without that head was made' test -s "$run-pruned/recipe.ron"
"$program" heads "$run-pruned" || fail 'the pruned run does not open'
keys ctrl+z
click 1248 751
click 1109 695
wait_for 20 'a fork was made' compgen -G "$run-from-*/recipe.ron"
sleep 2
picture 15-forked
before=$(steps)
keys space
wait_for 20 'Space went on with it' steps_at_least $((before + 20))

keys ctrl+q
sleep 0.7
picture 16-asked-before-closing
kill -0 "$window_process" 2>/dev/null || fail 'the window closed in the middle of training without asking'
keys Return
wait_for 30 'the run was saved and the window closed' bash -c "! kill -0 $window_process"
wait "$window_process" || fail 'the program ended with an error'
"$program" evaluate "$run" || fail 'the run cannot be evaluated afterwards'
echo "tour: done, pictures in $pictures"
