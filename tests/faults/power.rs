//! F4 and F5: the power is cut right after each yes, and at random moments under load; and the proof that this test
//! would see it if the queue relied on luck.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    calls::{all, has, holds, lines, process},
    disks::{Image, Mount, may_mount},
};

/// How long one line may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `look` finds something.
pub(super) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let found = runtime.block_on(async {
        let looking = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await
    });
    found.unwrap_or_else(|_late| panic!("waited in vain for {what}"))
}

/// A life on a disk of its own, which stops after each line it writes.
struct OnDisk {
    root: tempfile::TempDir,
    child: Child,
}

impl OnDisk {
    fn start(stage: &Path, fault: Option<&str>, in_steps: bool) -> Self {
        let root = tempfile::Builder::new().prefix("podium-power-").tempdir().unwrap();
        fs::create_dir_all(stage).unwrap();
        let mut command: Command = process(root.path(), stage, fault);
        if in_steps {
            command.env("PODIUM_TEST_STEPS", "1").stdin(Stdio::piped());
        }
        let child = command.spawn().unwrap();
        Self { root, child }
    }

    fn diary(&self) -> Vec<String> {
        lines(&self.root.path().join("diary"))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a cut now would leave, held against what was said before it.
fn survives_a_cut(image: &Image, mount: &Mount, stage: &str, diary: &[String]) -> Result<(), String> {
    let cut = image.cut(mount);
    let mount = cut.mount();
    holds(&mount.path().join(stage), diary)
}

/// Cuts the power after each line of a life; tells what did not hold.
fn cuts(kind: &'static str, fault: Option<&str>) -> (usize, Vec<String>) {
    let image = Image::new(kind);
    let mount = image.mount();
    // The folder that holds the stage is the operator's, who made it long ago.
    fs::create_dir(mount.path().join("stage")).unwrap();
    rustix::fs::sync();
    let mut life = OnDisk::start(&mount.path().join("stage"), fault, true);
    let (mut known, mut broken) = (0, Vec::new());
    loop {
        let diary = eventually("the next line", || Some(life.diary()).filter(|diary| diary.len() > known));
        known = diary.len();
        if let Err(why) = survives_a_cut(&image, &mount, "stage", &diary) {
            broken.push(format!("after \"{}\": {why}", diary[known - 1]));
        }
        if diary[known - 1] == "the end" {
            return (known, broken);
        }
        life.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

/// File systems to try: the usual one, and all that there are tools for where all is asked for.
fn kinds() -> Vec<&'static str> {
    let others = ["xfs", "btrfs"].into_iter().filter(|kind| all() && has(&format!("mkfs.{kind}")));
    std::iter::once("ext4").chain(others).collect()
}

/// F4, right after each kind of yes (G1, G2, G3, G6).
#[test]
fn a_power_cut_right_after_each_yes_takes_nothing_back() {
    if !may_mount() || !has("strace") {
        return;
    }
    for kind in kinds() {
        let (tried, broken) = cuts(kind, None);
        println!("{kind}: {tried} cuts, {} took something back", broken.len());
        assert!(tried >= 15, "only {tried} cuts");
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

/// F4, at random moments while several live (G1, G2, G3).
#[test]
fn a_power_cut_at_any_moment_takes_no_yes_back() {
    if !may_mount() || !has("strace") {
        return;
    }
    let image = Image::new("ext4");
    let mount = image.mount();
    let mut tried = 0;
    for round in 0..if all() { 40 } else { 6 } {
        let names: Vec<String> = (0..3).map(|n| format!("stage-{round}-{n}")).collect();
        for name in &names {
            fs::create_dir(mount.path().join(name)).unwrap();
        }
        rustix::fs::sync();
        let lives: Vec<OnDisk> =
            names.iter().map(|name| OnDisk::start(&mount.path().join(name), None, false)).collect();
        // A different moment each time, told by what has been said, not by a clock.
        eventually("some lines", || {
            let said: usize = lives.iter().map(|life| life.diary().len()).sum();
            (said > 2 + (round * 7) % 50).then_some(())
        });
        for life in &lives {
            life.signal(rustix::process::Signal::STOP);
        }
        let diaries: Vec<Vec<String>> = lives.iter().map(OnDisk::diary).collect();
        let cut = image.cut(&mount);
        // The power is off: whoever lived is gone.
        drop(lives);
        let found = cut.mount();
        for (name, diary) in names.iter().zip(&diaries) {
            holds(&found.path().join(name), diary).unwrap_or_else(|why| panic!("{name}: {why}"));
            tried += 1;
        }
    }
    println!("{tried} lives cut short by power");
}

/// F5: without syncs the cuts above must be seen to take something back.
#[test]
fn the_power_cuts_are_honest_without_syncs_they_take_yeses_back() {
    if !may_mount() || !has("strace") {
        return;
    }
    let fault = "fsync,fdatasync,syncfs:retval=0";
    let (tried, broken) = cuts("ext4", Some(fault));
    println!("without syncs {} of {tried} cuts took something back", broken.len());
    assert!(broken.len() * 2 > tried, "only {} of {tried}", broken.len());
    if !all() {
        return;
    }
    // Each sync alone: which of them are needed, as far as cuts after a yes can tell.
    let mut needed = 0;
    for call in ["fsync", "syncfs"] {
        for when in 1..=if call == "syncfs" { 1 } else { 70 } {
            let (_, broken) = cuts("ext4", Some(&format!("{call}:retval=0:when={when}")));
            needed += usize::from(!broken.is_empty());
            println!("{call} {when}: {}", broken.first().map_or("not missed", |why| why.lines().next().unwrap()));
        }
    }
    println!("{needed} syncs are missed when they alone are left out");
}
