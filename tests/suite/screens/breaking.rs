//! A release that does not load, and one that asks for what is not installed: on real code servers.

use codevol_tests::{Defines, Fleet, Machine, Transcript};
use insta::assert_snapshot;

use super::filtered;

/// What depends on how the tests' Dagster was installed, and when its servers were up.
const FILTERS: [(&str, &str); 9] = [
    (r"/[^ `'\x22]*/bin/python[0-9.]*", "[python]"),
    (r"Python \([^)]*\)", "Python ([environment])"),
    (
        r#""version":"[^"]*","dagster":"[^"]*","packages":\d+"#,
        r#""version":"[n]","dagster":"[n]","packages":[n]"#,
    ),
    (r#""server_id":"[^"]*""#, r#""server_id":"[n]""#),
    (r"\[\d+ Dagster frames", "[n Dagster frames"),
    (r#""hidden_frames":[1-9]\d*"#, r#""hidden_frames":[n]"#),
    (r"(?m)^# .*standard library is not found\n", ""),
    (r#""unjudged":\["[^"]*"\]"#, r#""unjudged":[]"#),
    (r#""error":\{"node":"dag-02"[^}]*\}"#, r#""error":null"#),
];

#[test]
fn a_release_that_lacks_packages_and_one_that_does_not_load() {
    let Some(fleet) = Fleet::with_dagster(2) else {
        return;
    };
    let mut settings = insta::Settings::clone_current();
    for (pattern, replacement) in FILTERS {
        settings.add_filter(pattern, replacement);
    }
    let _filtered = (settings.bind_to_scope(), filtered());
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let mut told = Transcript::default();
    let wanted = laptop.save("requirements.txt", "no-such-package==1.2\n");
    let wanted = wanted.to_str().unwrap();
    let push = ["push", "--as", "requirements.txt", wanted, "--json"];
    told.run_for_last(&laptop, &push).exits(0);
    told.run(&laptop, &["status"]).exits(0);

    let broken = Defines::asset("second").and("import no_such_package");
    let broken = laptop.save("orders.py", broken.text());
    let broken = broken.to_str().unwrap();
    // What happens on two nodes at once has no order: only its end is told.
    let push = ["push", "--as", "pipes/orders.py", broken, "-q"];
    told.run(&laptop, &push).exits(1);
    fleet.source.wait_live_everywhere(2);
    told.run(&laptop, &["status"]).exits(0);
    told.run(&laptop, &["status", "--json"]).exits(0);
    told.run(&laptop, &["rollback", "r3", "-y", "--json"])
        .exits(4);
    told.run(&laptop, &["retry", "r3", "--json"]).exits(1);
    assert_snapshot!(told.text(), @r#"
    $ codevol push --as requirements.txt [PLACE]/alice/requirements.txt --json
    {"event":"rollout.done","at":"[at]","volume":"pipes","release":2,"live":2,"returned":false,"wave":2,"waves":2,"nodes":{"dag-01":"live","dag-02":"live"},"held":[],"warnings":[{"count":2,"nodes":["dag-01","dag-02"],"message":"`[python]` lacks no-such-package==1.2 (requirements.txt:1)","hint":"`[python] -m pip install 'no-such-package==1.2'` on that server"}],"error":null}
    --- 0
    $ codevol status
    pipes  r2  hot-fix by alice, now  live on 2 of 2

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r2 [id]  live  loaded in [took]  proven  -  now
      dag-02  r2 [id]  live  loaded in [took]  proven  -  now

    # Health
    #   on dag-01 and dag-02 `[python]` lacks no-such-package==1.2 (requirements.txt:1); `[python] -m pip install 'no-such-package==1.2'` mends it
    --- 0
    $ codevol push --as pipes/orders.py [PLACE]/alice/orders.py -q
    Hashed  1 file (85 B)  [took]
    Release  r3 = r2 + 1 changed  +4 -1 lines

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  ok [n] B  ok [took]  back on r2
      dag-02  ok [n] B  -  live

    error: r3 is broken on dag-01; dag-01 is back on r2 (proven)
      node dag-01, wave 1 of 2; dag-02 was not touched

      pipes/orders.py:9
        ModuleNotFoundError: No module named 'no_such_package'
      [n Dagster frames hidden, -v shows your own]

    hint: that server's Python ([environment]) lacks a package the release imports; codevol sends code, not packages; `[python] -m pip install 'no-such-package==1.2'` on that server
    --- 1
    $ codevol status
    pipes  r2  hot-fix by alice, now  live on 2 of 2

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r2 [id]  live  loaded in [took]  proven  -  now
      dag-02  r2 [id]  live  loaded in [took]  proven  -  now

    # Health
    #   on dag-01 and dag-02 `[python]` lacks no-such-package==1.2 (requirements.txt:1); `[python] -m pip install 'no-such-package==1.2'` mends it
    #   r3 is broken on dag-01: ModuleNotFoundError: No module named 'no_such_package'; `codevol retry r3` tries it again
    --- 0
    $ codevol status --json
    {"schema":"codevol.status/1","fleet":"[id]","listen":"[address]","source":null,"volumes":[{"name":"pipes","head":3,"live":2,"frozen":null,"rollout":null,"waits_for":[],"quarantined":[{"release":3,"node":"dag-01","message":"ModuleNotFoundError: No module named 'no_such_package'"}],"skipped":[],"watch":{"mode":"inotify","state":"ok","advice":null},"release":{"seq":2,"id":"[id]","manifest":"[id]","parent":"[id]","origin":"hot-fix","author":"alice","message":"","created_at":"[at]","files":5,"bytes":245,"git":null},"skew":[],"nodes":[{"name":"dag-01","state":"live","release":2,"staged":[3,2,1],"lag":0,"evidence":"proven","last_seen_at":"[at]","held":null,"drift":[],"drift_more":0,"environments":[{"python":"[python]","version":"[n]","dagster":"[n]","packages":[n]}],"dependencies":{"release":2,"refused":false,"packages":[{"name":"no-such-package","wanted":"==1.2","installed":null,"python":"[python]","file":"requirements.txt","line":1}],"imports":[],"unjudged":[],"left_out":0,"mend":["[python] -m pip install 'no-such-package==1.2'"]},"code_servers":[{"address":"[address]","kind":"code-server","state":"good","server_id":"[n]","load_ms":[took]}],"error":{"node":"dag-01","release":3,"step":"verify","kind":"broken","message":"ModuleNotFoundError: No module named 'no_such_package'","location":"pipes/orders.py:9","traceback":"  File \"pipes/definitions.py\", line 3, in <module>\n  from pipes import orders\n  File \"pipes/orders.py\", line 9, in <module>\n  import no_such_package\n","hidden_frames":[n],"hint":"that server's Python ([environment]) lacks a package the release imports; codevol sends code, not packages; `[python] -m pip install 'no-such-package==1.2'` on that server"}},{"name":"dag-02","state":"live","release":2,"staged":[3,2,1],"lag":0,"evidence":"proven","last_seen_at":"[at]","held":null,"drift":[],"drift_more":0,"environments":[{"python":"[python]","version":"[n]","dagster":"[n]","packages":[n]}],"dependencies":{"release":2,"refused":false,"packages":[{"name":"no-such-package","wanted":"==1.2","installed":null,"python":"[python]","file":"requirements.txt","line":1}],"imports":[],"unjudged":[],"left_out":0,"mend":["[python] -m pip install 'no-such-package==1.2'"]},"code_servers":[{"address":"[address]","kind":"code-server","state":"good","server_id":"[n]","load_ms":[took]}],"error":null}],"not_in_git":[]}]}
    --- 0
    $ codevol rollback r3 -y --json
    {"schema":"codevol.error/1","kind":"quarantined","message":"r3 was found broken","causes":[],"hint":"`codevol retry r3` tries it once more"}
    --- 4
    $ codevol retry r3 --json
    {"event":"node.activated","at":"[at]","volume":"pipes","release":3,"node":"dag-01","elapsed_ms":[took],"bytes":null,"evidence":null,"wave":1,"error":null}
    {"event":"node.failed","at":"[at]","volume":"pipes","release":3,"node":"dag-01","elapsed_ms":null,"bytes":null,"evidence":null,"wave":null,"error":{"node":"dag-01","release":3,"step":"verify","kind":"broken","message":"ModuleNotFoundError: No module named 'no_such_package'","location":"pipes/orders.py:9","traceback":"  File \"pipes/definitions.py\", line 3, in <module>\n  from pipes import orders\n  File \"pipes/orders.py\", line 9, in <module>\n  import no_such_package\n","hidden_frames":[n],"hint":"that server's Python ([environment]) lacks a package the release imports; codevol sends code, not packages; `[python] -m pip install 'no-such-package==1.2'` on that server"}}
    {"event":"node.returned","at":"[at]","volume":"pipes","release":2,"node":"dag-01","elapsed_ms":[took],"bytes":null,"evidence":"proven","wave":null,"error":null}
    {"event":"rollout.failed","at":"[at]","volume":"pipes","release":3,"live":2,"returned":true,"wave":1,"waves":2,"nodes":{"dag-01":"live","dag-02":"live"},"held":[],"warnings":[{"count":2,"nodes":["dag-01","dag-02"],"message":"`[python]` lacks no-such-package==1.2 (requirements.txt:1)","hint":"`[python] -m pip install 'no-such-package==1.2'` on that server"}],"error":{"node":"dag-01","release":3,"step":"verify","kind":"broken","message":"ModuleNotFoundError: No module named 'no_such_package'","location":"pipes/orders.py:9","traceback":"  File \"pipes/definitions.py\", line 3, in <module>\n  from pipes import orders\n  File \"pipes/orders.py\", line 9, in <module>\n  import no_such_package\n","hidden_frames":[n],"hint":"that server's Python ([environment]) lacks a package the release imports; codevol sends code, not packages; `[python] -m pip install 'no-such-package==1.2'` on that server"}}
    --- 1
    "#);
}
