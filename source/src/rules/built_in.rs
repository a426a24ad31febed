//! The rules that hold in every tree, and those that hold where a tool keeps its state.

/// Left out of every tree. Secrets first of all.
pub(super) const EVERYWHERE: &str = "\
# `.git` without a slash too: in a worktree or submodule it is a file.
.git/
.git
.hg/
.svn/
.idea/
.vscode/
.DS_Store
*.swp
*~
.#*
\\#*#
4913
.goutputstream-*
*___jb_*___
*.kate-swp
*.tmp
*.part
*.filepart
__pycache__/
*.py[cod]
*.egg-info/
.eggs/
.venv/
.venv-*/
venv/
.tox/
.nox/
node_modules/
__pypackages__/
.pixi/
.mypy_cache/
.ruff_cache/
.pytest_cache/
.hypothesis/
.cache/
.ipynb_checkpoints/
htmlcov/
.coverage*
.env
.env.*
!.env.example
!.env.*.example
secrets/
*.pem
*.key
*.p12
id_rsa*
id_ed25519*
.pypirc
.netrc
.pgpass
.tmp_dagster_home*/
.dagster_home/
.telemetry/
.logs_queue/
*.duckdb
*.duckdb.wal
*.db-journal
*.sqlite-wal
*.sqlite-shm
";

/// Left out where [`DAGSTER_FILE`] stands: that directory is a `DAGSTER_HOME`.
pub(super) const DAGSTER: &str = "\
/storage/
/history/
/logs/
/schedules/
/compute_logs/
";

/// Left out where [`DBT_FILE`] stands.
pub(super) const DBT: &str = "\
/target/run/
/target/compiled/
/target/partial_parse.msgpack
/logs/
/.user.yml
";

/// Kept where [`DBT_FILE`] stands, whatever other rules say: code servers load it.
pub(super) const DBT_KEEP: &str = "!/target/manifest.json\n";

pub(super) const DAGSTER_FILE: &str = "dagster.yaml";
pub(super) const DBT_FILE: &str = "dbt_project.yml";
