#!/bin/sh
# Some tests run Apache Kafka itself. Fetches it by Maven, where there is Java 17 or newer; never fails.
# usage: tests/install-kafka.sh PYTHON   (of the environment that it is kept with)

prefix=$("${1:-python3}" -c 'import sys; print(sys.prefix)') || exit 0
folder=$prefix/share/apache-kafka
cd "$(dirname "$0")" || exit 0
if [ -e "$folder/complete" ]; then
    exit 0
fi
if ! command -v java >/dev/null 2>&1 || ! command -v mvn >/dev/null 2>&1; then
    echo "There is no Java with Maven here: the tests with Apache Kafka are skipped. On Debian: apt-get install maven"
    exit 0
fi
echo "Fetching Apache Kafka for its tests …"
# Whatever Maven waits for, the tests don't: what is there by then is kept for the next time.
if timeout 60 mvn -q -B -f kafka-broker.pom.xml dependency:copy-dependencies -DincludeScope=runtime \
    "-DoutputDirectory=$folder" >/dev/null 2>&1; then
    touch "$folder/complete"
else
    echo "Apache Kafka could not be fetched: its tests are skipped."
fi
exit 0
