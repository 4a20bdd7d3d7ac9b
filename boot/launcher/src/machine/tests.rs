use super::*;
use crate::nvdimm::Backing;
use crate::size::{MIB_2, PAGE};

fn machine() -> Machine {
    Machine {
        qemu: "qemu-system-x86_64".into(),
        machine_type: MachineType::Q35,
        firmware: "qboot.rom".into(),
        accel: Accel::Tcg,
        icount: false,
        cpus: 1,
        memory: Size(256 << 20),
        nvdimms: vec![Nvdimm::temporary()],
        kernel: "build/kernel.elf".into(),
        command_line: "init=/bin/prog dax.align=2M".into(),
        extra: vec![],
    }
}

fn text(machine: &Machine) -> String {
    let arguments = machine.arguments().expect("a sound machine");
    shell_line(arguments.iter().map(OsString::as_os_str)).into_string().expect("UTF-8")
}

fn file(path: &str, usable: Size, label: Option<Size>) -> Nvdimm {
    Nvdimm { backing: Backing::File(path.into()), usable, label, align: MIB_2, armed: true }
}

#[test]
fn the_line_says_everything_the_guest_gets() {
    let line = text(&machine());
    for part in [
        "-machine q35,nvdimm=on,graphics=off,usb=off,smm=off,pit=off,pic=off,sata=off,smbus=off,vmport=off,\
         hpet=off,i8042=off -accel tcg -cpu max -smp 1 -m 256M,slots=1,maxmem=2304M",
        "-nodefaults -no-user-config -no-reboot -display none -vga none -bios qboot.rom",
        "-object memory-backend-file,id=mem0,share=on,mem-path=/dev/fd/8,size=1G,align=1G",
        "-device nvdimm,id=nvdimm0,memdev=mem0 ",
        "-add-fd fd=3,set=3 -chardev file,id=stdout,path=/dev/fdset/3,append=on \
         -device isa-debugcon,iobase=0xe9,readback=0xe9,chardev=stdout",
        "iobase=0xea,readback=0xea,chardev=stderr",
        "iobase=0xeb,readback=0xeb,chardev=status",
        "-serial chardev:log -kernel build/kernel.elf -initrd /dev/fd/7 \
         -append 'init=/bin/prog dax.align=2M'",
    ] {
        assert!(line.contains(part), "{part}\nis not in\n{line}");
    }
    assert!(!line.contains("-icount"));
}

#[test]
fn kvm_icount_and_pc_change_their_words() {
    let mut kvm = machine();
    kvm.accel = Accel::Kvm;
    assert!(text(&kvm).contains("-accel kvm -cpu host"));
    let mut counted = machine();
    (counted.icount, counted.machine_type) = (true, MachineType::Pc);
    assert!(text(&counted).contains("-machine pc,nvdimm=on,"));
    assert!(text(&counted).contains("-icount shift=0,sleep=off"));
}

#[test]
fn without_nvdimms_there_are_no_slots() {
    let mut bare = machine();
    bare.nvdimms.clear();
    let line = text(&bare);
    assert!(line.contains("-m 256M ") && !line.contains("nvdimm") && !line.contains("slots"), "{line}");
}

#[test]
fn maxmem_holds_every_nvdimm_rounded_up_to_1g() {
    let mut two = machine();
    two.nvdimms = vec![
        file("a", Size(PAGE.bytes()), None),
        file("b,c", GIB, Some(Size(128 << 10))),
        file("d", GIB, None),
    ];
    two.nvdimms[0].align = PAGE;
    two.nvdimms[2].armed = false;
    let line = text(&two);
    assert!(line.contains("-m 256M,slots=3,maxmem=5376M"), "{line}");
    assert!(line.contains("mem-path=a,size=4K,align=4K"), "{line}");
    assert!(line.contains("mem-path=b,,c,size=1048704K,align=2M"), "{line}");
    assert!(line.contains("memdev=mem1,label-size=128K"), "{line}");
    assert!(line.contains("memdev=mem2,unarmed=on"), "{line}");
}

#[test]
fn devices_in_qemu_opts_get_slots_and_room() {
    let mut extra = machine();
    extra.extra = ["-object", "memory-backend-file,id=m,size=4G,mem-path=x", "-device", "nvdimm,memdev=m"]
        .map(Into::into)
        .into();
    let line = text(&extra);
    assert!(line.contains("slots=2,maxmem=6400M"), "{line}");
    assert!(line.ends_with("-device nvdimm,memdev=m"), "{line}");
}

#[test]
fn too_many_or_too_large_nvdimms_are_refused_by_number() {
    let mut many = machine();
    many.nvdimms = vec![Nvdimm::temporary(); MAX_NVDIMMS + 1];
    assert!(many.arguments().expect_err("slots").message.contains("257 NVDIMMs"));
    let mut large = machine();
    large.nvdimms = vec![file("a", Size(1 << 40), None)];
    assert!(large.arguments().expect_err("addresses").message.contains("physical addresses"));
    large.nvdimms = vec![file("a", Size(u64::MAX - 4095), None)];
    assert!(large.arguments().expect_err("64 bits").message.contains("64 bits"));
}

#[test]
fn words_are_quoted_for_a_shell_only_where_needed() {
    let words = ["a=b,c", "", "it's", "a b", "$x", "=z", "-m"].map(OsStr::new);
    assert_eq!(shell_line(words), "a=b,c '' 'it'\\''s' 'a b' '$x' '=z' -m");
}
