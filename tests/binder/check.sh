#!/bin/sh
# What mybinder.org would do with binder/, without Docker:
#
# 1. repo2docker's own code reads the files, and has to find all of them;
# 2. an unprivileged user with a clean home runs the build step, with the network;
# 3. the same user runs notebooks as in a pod: no network, 64 MB of /dev/shm, 2 GB of memory, one
#    processor, no privilege, process numbers of its own; JupyterLab opens what the badge names.
#
#   make binder-check                             every notebook
#   make binder-check NOTEBOOKS="notebooks/01-quickstart.ipynb"
#
# It needs root (for the pod), and PYTHON, of 3.10 to 3.12, where that user can run it.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-/usr/bin/python3}
NOTEBOOKS=${NOTEBOOKS:-$(echo notebooks/*.ipynb)}

leave_out() {
    echo "binder-check was left out: $1"
    exit 0
}
[ "$(id -u)" = 0 ] || leave_out "it needs root, to make a pod"
for tool in git ip mount prlimit setpriv taskset unshare; do
    command -v "$tool" >/dev/null || leave_out "there is no command $tool"
done
unshare --mount --pid --ipc --net --fork true 2>/dev/null || leave_out "no pod can be made here"
"$PYTHON" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
    2>/dev/null || leave_out "$PYTHON is no Python of 3.10 to 3.12 with venv: PYTHON=/path/python"

work=$(mktemp -d /tmp/tritonic_nb_binder.XXXXXX)
trap 'rm -rf "$work"' EXIT
home=$work/home
mkdir "$home" "$work/repo"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/repo"
if [ -d "$HOME/.config/pip" ]; then # where pip is told to look for packages
    mkdir "$home/.config"
    cp -r "$HOME/.config/pip" "$home/.config/pip"
fi
chown -R 1000:1000 "$work"
chmod 755 "$work"

as_user() {
    setpriv --reuid=1000 --regid=1000 --clear-groups --bounding-set=-all --inh-caps=-all \
        --no-new-privs env -i HOME="$home" LANG=C.UTF-8 \
        PATH="$work/env/bin:/usr/local/bin:/usr/bin:/bin" "$@"
}

echo "1. repo2docker reads binder/"
"$PYTHON" -m venv "$work/tools"
if "$work/tools/bin/pip" install --quiet --quiet jupyter-repo2docker; then
    (cd "$work/repo" && "$work/tools/bin/python" tests/binder/read_files.py)
else
    echo "left out: repo2docker cannot be installed here"
fi

echo "2. the build step"
as_user "$PYTHON" -m venv "$work/env"
cd "$work/repo"
as_user pip install --quiet --quiet -r binder/requirements.txt nbmake
as_user binder/postBuild

echo "3. the notebooks, in a pod"
export work home NOTEBOOKS
# The home's own temporary files; without the network only the loopback is there.
unshare --mount --pid --ipc --net --fork --kill-child --mount-proc --propagation private sh -eu -c '
    ip link set lo up
    mount -t tmpfs -o size=64m tmpfs /dev/shm
    chmod 1777 /dev/shm
    exec taskset -c 0 prlimit --data=2147483648 --core=0 \
        setpriv --reuid=1000 --regid=1000 --clear-groups --bounding-set=-all --inh-caps=-all \
        --no-new-privs env -i HOME="$home" LANG=C.UTF-8 PATH="$work/env/bin:/usr/bin:/bin" sh -eu -c "
            python tests/binder/open_lab.py
            exec python -m pytest -q -p no:cacheprovider -c /dev/null --rootdir . --nbmake \
                --nbmake-timeout=300 --durations=0 $NOTEBOOKS"'
