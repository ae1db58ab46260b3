"""Put the tables of results/*.json into the README, below its marker."""

import json

from common import HERE, table

MARKER = "<!-- measured: everything below is written by report.py -->"


def main() -> None:
    lines = [MARKER]
    for path in sorted((HERE / "results").glob("*.json")):
        lines += ["", f"## {path.stem}"]
        for name, result in json.loads(path.read_text()).items():
            made_by = result["provenance"]
            versions = ", ".join(f"{package} {v}" for package, v in made_by["versions"].items())
            lines += ["", f"### {name}", "", table(result["rows"]), ""]
            lines += [f"{made_by['time']}, commit {made_by['commit']}, {versions}; "]
            lines[-1] += f"load of the machine at the end {made_by['load']}."
    readme = HERE / "README.md"
    before = readme.read_text().split(MARKER)[0]
    readme.write_text(before + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
