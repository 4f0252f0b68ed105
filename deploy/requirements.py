"""Print the requirements in ./pyproject.toml, including those of the extras in the arguments.

pip can install the dependencies of a project only together with the project.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = list(project["dependencies"])
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
root = Path.cwd().as_uri()
sys.stdout.write("\n".join(wanted).replace("{root:uri}", root) + "\n")
