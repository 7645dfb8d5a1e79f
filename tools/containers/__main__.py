"""`python -m tools.containers up|build RELEASE | bench RELEASE WORDS | test [RELEASE ...] | down | engine-down`."""

from __future__ import annotations

import sys

from tools.containers import cluster, engine, images, matrix
from tools.containers.engine import EngineError, say

HOW = """\
Slurm {release} is up: controller, slurmdbd, database, n1 to n4, login, daemon, standby. In {project}-…-1, say:
  log in:      docker exec -it --user alice --workdir /home/alice {login} bash
  submit:      docker exec --user bob --workdir /home/bob {login} sbatch -p preempt --wrap 'sleep 600'
  the daemon:  docker exec --user reserve {daemon} slurm-reserve --site /src/docker/etc/site.yaml status
               docker logs --follow {daemon}
  remove all:  make cluster-down"""


def main(words: list[str]) -> int:
    """Do what is asked; 1 with a reason when it cannot be done, 2 when it is not understood."""
    try:
        match words:
            case ["engine-down"]:
                engine.stop()
            case ["build", release] if release in images.SUITES:
                engine.start()
                images.build(release)
            case ["up", release] if release in images.SUITES:
                engine.start()
                cluster.up(release)
                names = {each: cluster.container(release, each) for each in ("login", "daemon")}
                say(HOW.format(release=release, project=cluster.project(release), **names))
            case ["test", *releases] if set(releases) <= images.SUITES.keys():
                engine.start()
                return matrix.run(releases or list(images.SUITES))
            case ["bench", release, *words] if release in images.SUITES:
                engine.start()
                return matrix.bench(release, words)
            case ["down"]:
                for release in images.SUITES:
                    if engine.answers() and cluster.is_there(release):
                        cluster.down(release)
            case _:
                sys.stderr.write(f"usage: {__doc__}\nreleases: {', '.join(images.SUITES)}\n")
                return 2
    except EngineError as error:
        sys.stderr.write(f"containers: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
