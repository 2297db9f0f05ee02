#!/bin/sh
# A hook that writes down how it was called: `record.sh STAGE [exit N|hang|kill]`, into the file calls beside itself. Fails as it is told.
{
    echo "$1: $# arguments"
    echo "  in $(pwd)"
    echo "  with $(tr '\0' '\n' < /proc/self/environ | sort | tr '\n' ' ')"
    echo "  told $(cat)"
} >> "${0%/*}/calls"
echo "printed by $1"
echo "complained by $1" >&2
case "$2" in
exit) exit "$3" ;;
hang) exec sleep 100 ;;
kill) kill -9 $$ ;;
esac
