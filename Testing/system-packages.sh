#!/bin/sh
# The Debian packages that the tests need beyond Python and make: Mesa's EGL to draw views without a screen, a font,
# and a compiler for the extension's CMake test. Installed when this may be done, else named.
missing=""
need() { # need PACKAGE: unless dpkg knows it as installed, or under the name it has since the 64-bit times of 2024
  dpkg-query -W -f='${Status} ' "$1" "$1t64" 2>/dev/null | grep -q "ok installed" || missing="$missing $1"
}
command -v dpkg-query >/dev/null || exit 0
for package in libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libxkbcommon0 libfontconfig1 libglib2.0-0 libdbus-1-3 fonts-dejavu-core; do
  need "$package"
done
command -v c++ >/dev/null || need g++
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "The tests need Debian packages; install them with: sudo apt-get install$missing" >&2
  exit 1
fi
