//! KVM or TCG: which one runs the guest, and why.
//!
//! An openable `/dev/kvm` proves little: with `kvm_pvm` behind it, ring 0 is interpreted, 1 GiB pages are
//! missing, and some instructions leave QEMU hanging. So KVM means `kvm_intel` or `kvm_amd` here, the
//! modules are looked at first, and `/dev/kvm` is not opened when they say no or when TCG was asked for.

use std::fs::OpenOptions;
use std::path::Path;

use clap::ValueEnum;

use crate::failure::Failure;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM on real hardware virtualisation, otherwise TCG
    Auto,
    /// KVM, or a refusal that says why not
    Kvm,
    /// QEMU's translator
    Tcg,
}

/// What runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Decides, and says why in one line. `root` is `/` but in tests; `icount` needs TCG.
pub fn choose(choice: AccelChoice, icount: bool, root: &Path) -> Result<(Accel, String), Failure> {
    match choice {
        AccelChoice::Tcg => Ok((Accel::Tcg, "accel: tcg, as asked for".into())),
        AccelChoice::Auto if icount => Ok((Accel::Tcg, "accel: tcg, for --icount needs it".into())),
        AccelChoice::Kvm if icount => {
            Err(Failure::launcher("--icount counts instructions of TCG: use it with --accel tcg or auto"))
        }
        AccelChoice::Auto => Ok(match kvm_module(root) {
            Ok(module) => (Accel::Kvm, format!("accel: kvm, by {module}")),
            Err(why) => (Accel::Tcg, format!("accel: tcg, for KVM cannot be used: {why}")),
        }),
        AccelChoice::Kvm => match kvm_module(root) {
            Ok(module) => Ok((Accel::Kvm, format!("accel: kvm, as asked for, by {module}"))),
            Err(why) => Err(Failure::launcher(format!("KVM cannot be used: {why}; use --accel tcg"))),
        },
    }
}

/// The hardware module behind `/dev/kvm`, or why KVM cannot be used.
fn kvm_module(root: &Path) -> Result<&'static str, String> {
    let loaded = |name: &str| root.join("sys/module").join(name).exists();
    if loaded("kvm_pvm") {
        return Err("kvm_pvm is behind /dev/kvm, which interprets the guest's kernel".into());
    }
    let module = ["kvm_intel", "kvm_amd"]
        .into_iter()
        .find(|name| loaded(name))
        .ok_or("neither kvm_intel nor kvm_amd is loaded")?;
    match OpenOptions::new().read(true).write(true).open(root.join("dev/kvm")) {
        Ok(_) => Ok(module),
        Err(error) => Err(format!("/dev/kvm: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn host(modules: &[&str], has_device: bool) -> TempDir {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        for module in modules {
            fs::create_dir_all(root.path().join("sys/module").join(module)).expect("fake module");
        }
        fs::create_dir_all(root.path().join("dev")).expect("fake dev");
        if has_device {
            fs::write(root.path().join("dev/kvm"), "").expect("fake device");
        }
        root
    }

    #[test]
    fn auto_takes_kvm_only_on_hardware_virtualisation() {
        for (modules, has_device, accel, reason) in [
            (&["kvm", "kvm_intel"][..], true, Accel::Kvm, "by kvm_intel"),
            (&["kvm", "kvm_amd"], true, Accel::Kvm, "by kvm_amd"),
            (&["kvm", "kvm_pvm"], true, Accel::Tcg, "kvm_pvm is behind"),
            (&["kvm", "kvm_intel", "kvm_pvm"], true, Accel::Tcg, "kvm_pvm is behind"),
            (&["kvm"], true, Accel::Tcg, "neither kvm_intel nor kvm_amd"),
            (&["kvm", "kvm_intel"], false, Accel::Tcg, "/dev/kvm: No such file"),
        ] {
            let root = host(modules, has_device);
            let (chosen, why) = choose(AccelChoice::Auto, false, root.path()).expect("auto never refuses");
            assert_eq!(chosen, accel, "{modules:?}");
            assert!(why.contains(reason), "{why}");
        }
    }

    #[test]
    fn kvm_that_cannot_be_used_is_refused_with_its_reason() {
        let root = host(&["kvm", "kvm_pvm"], true);
        let refusal = choose(AccelChoice::Kvm, false, root.path()).expect_err("kvm_pvm is no KVM");
        assert!(refusal.message.contains("kvm_pvm"), "{refusal}");
        assert_eq!(refusal.status, crate::failure::LAUNCHER);
    }

    #[test]
    fn icount_means_tcg() {
        let root = host(&["kvm", "kvm_intel"], true);
        assert_eq!(choose(AccelChoice::Auto, true, root.path()).expect("auto").0, Accel::Tcg);
        assert!(choose(AccelChoice::Kvm, true, root.path()).is_err());
    }
}
