//! What file systems and devices promise more, or less, than POSIX and powersafe overwrite.

use super::*;

const ALL: [Personality; 3] = [Personality::Posix, Personality::Ext4, Personality::Xfs];

fn like(personality: Personality) -> (SimFs, Arc<dyn File>) {
    let (fs, file) = durable_file();
    fs.set_personality(personality);
    (fs, file)
}

#[test]
fn names_are_lost_in_any_combination_or_in_the_order_of_the_journal() {
    for personality in ALL {
        let (fs, _file) = like(personality);
        for name in ["d/a", "d/b", "d/c"] {
            fs.open(path(name), Access::CreateNew).unwrap();
        }
        let images = fs.crash_images(fs.ops(), 64, 0);
        assert!(images.is_exhaustive());
        let found: HashSet<_> = images.map(|image| image.list_all()).collect();
        assert_eq!(found.len(), if personality == Personality::Posix { 8 } else { 4 }, "{personality:?}");
        let lone = fs.crash_at(fs.ops(), &mut |unit| Fate::from(unit.path.ends_with("c")));
        assert_eq!(lone.list_all().len(), if personality == Personality::Posix { 2 } else { 1 });
    }
}

/// A rename, create or unlink without a directory sync is undone by a power cut on ext4 and XFS.
#[test]
fn a_change_of_names_without_a_sync_may_be_undone_everywhere() {
    for personality in ALL {
        let (fs, file) = like(personality);
        file.write_at(b"x", 0).unwrap();
        file.sync().unwrap();
        fs.rename(path("d/f"), path("d/g")).unwrap();
        assert_eq!(after_losing_all(&fs).list_all(), [path("d/f")]);
        // An overwrite has nothing to say to the journal.
        file.write_at(b"y", 0).unwrap();
        let moved = Arc::clone(&file);
        moved.sync().unwrap();
        fs.remove(path("d/g")).unwrap();
        file.sync().unwrap();
        let left = after_losing_all(&fs).list_all();
        assert!(left == [path("d/f")] || personality != Personality::Posix && left == [path("d/g")], "{left:?}");
        fs.sync_dir(path("d")).unwrap();
        assert!(after_losing_all(&fs).list_all().is_empty());
    }
}

#[test]
fn a_sync_of_a_new_file_makes_its_name_durable_where_names_are_journaled() {
    for (personality, after_first, after_second) in
        [(Personality::Posix, 1, 1), (Personality::Ext4, 3, 3), (Personality::Xfs, 2, 3)]
    {
        let (fs, _file) = like(personality);
        let [one, two] = ["d/1", "d/2"].map(|name| fs.open(path(name), Access::CreateNew).unwrap());
        one.sync().unwrap();
        assert_eq!(after_losing_all(&fs).list_all().len(), after_first, "{personality:?}");
        two.sync().unwrap();
        assert_eq!(after_losing_all(&fs).list_all().len(), after_second, "{personality:?}");
    }
}

#[test]
fn a_file_grows_with_garbage_with_holes_or_without() {
    let outcomes = |personality| {
        let (fs, file) = like(personality);
        file.write_at(&[1; 1024], 0).unwrap();
        outcomes(&fs)
    };
    let [posix, ext4, xfs] = ALL.map(outcomes);
    let hole = [[0; 512], [1; 512]].concat();
    let (first, both) = (vec![1; 512], vec![1; 1024]);
    assert_eq!(ext4, HashSet::from([vec![], first.clone(), both.clone()]));
    let longer = [[1; 512], [0; 512]].concat();
    assert_eq!(xfs, HashSet::from([vec![], first, both, hole.clone(), longer, vec![0; 1024]]));
    assert!(posix.is_superset(&xfs) && posix.contains(&vec![0xA5; 1024]));
}

#[test]
fn allocated_space_that_was_not_written_is_zero_everywhere() {
    use crate::fs::Placement;
    for personality in ALL {
        let (fs, file) = like(personality);
        let region = Arc::clone(&file).region(Placement::Mapped, 4096).unwrap();
        region.prepare(0, 4096).unwrap();
        file.sync().unwrap();
        region.place(&[1; 1024], 0).unwrap();
        let found = outcomes(&fs);
        assert_eq!(found.len(), 4, "{personality:?}");
        assert!(found.iter().all(|bytes| bytes.len() == 4096 && bytes[1024..].iter().all(|&byte| byte == 0)));
    }
}

#[test]
fn a_new_sector_may_hold_what_a_removed_file_left_there() {
    let (fs, old) = durable_file();
    old.write_at(&[7; 1024], 0).unwrap();
    old.sync().unwrap();
    fs.remove(path("d/f")).unwrap();
    let new = fs.open(path("d/g"), Access::CreateNew).unwrap();
    fs.sync_dir(path("d")).unwrap();
    new.write_at(&[1; 1024], 512).unwrap();
    let image = fs.crash_at(fs.ops(), &mut |unit| match unit.change {
        Change::Data { .. } => Fate::Stale,
        _ => Fate::Kept,
    });
    assert_eq!(bytes(&image, "d/g"), [vec![0; 512], vec![7; 512], vec![0xA5; 512]].concat());
    assert!(fs.crash_images(fs.ops(), 256, 0).any(|image| image.origin().contains("stale")));
}

#[test]
fn zeros_written_ahead_may_leave_garbage_at_their_beginning() {
    use crate::fs::Placement;
    let (fs, file) = durable_file();
    let region = file.region(Placement::ZeroFilled, 64 << 10).unwrap();
    region.prepare(0, 64 << 10).unwrap();
    let found = bytes(&fs.crash_at(fs.ops(), &mut |_| Fate::Garbage), "d/f");
    assert_eq!(found, [0xA5; 4096]);
}

#[test]
fn without_powersafe_overwrite_a_torn_write_spoils_the_block_around_it() {
    for (block, spoiled) in [(512, 1024..1536), (2048, 0..2048)] {
        let (fs, file) = durable_file();
        file.write_at(&[1; 3000], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; 10], 1100).unwrap();
        let torn = |fs: &SimFs| bytes(&fs.crash_at(fs.ops(), &mut |_| Fate::Torn), "d/f");
        assert_eq!(torn(&fs), [1; 3000], "powersafe");
        fs.set_torn_block(Some(block));
        let mut expected = vec![1; 3000];
        expected[spoiled].fill(0xA5);
        assert_eq!(torn(&fs), expected);
        assert!(outcomes(&fs).contains(&expected));
        file.write_at(&[3; 100], 2900).unwrap();
        assert_eq!(torn(&fs).len(), 3000, "a block ends with its file");
        (0..20).for_each(|at| file.write_at(&[4; 10], at * 100).unwrap());
        assert!(fs.crash_images(fs.ops(), 100, 0).any(|image| image.origin().contains("torn")), "sampled too");
    }
}
