//! A model of how casklog writes, syncs, crashes and recovers, small enough for the checker stateright to visit every
//! state within bounds. Not the code of the library: the protocol of DESIGN and of `recovery`, written down once more in
//! blocks instead of bytes, so that what is proved is the rule and not its implementation (for that there are the crash
//! tests).
//!
//! What must hold, whatever is lost in a power cut, whatever a failed sync says, and wherever recovery itself is cut:
//!
//! * **Nothing acknowledged is lost**: what W has passed is there after the next open.
//! * **Nothing else appears**: the log is what was written, up to the end of a batch, and what recovery has given up once
//!   does not come back.
//! * **A crash alone is never damage**: open says so only where a bit has rotted.
//! * **Rot at or below W is reported**: W as told by any valid watermark, head stamp or manifest slot that is left. Above
//!   it the log ends, and nothing before that place is lost.
//!
//! [`Broken`] are protocols with one step left out or moved; for each of them the checker must find how it fails.
//!
//! The parts: [`disk`] is what a page cache and a power cut do, [`judge`] what recovery reads and decides, [`protocol`]
//! the steps of writer, committer, keeper and recovery.

pub mod disk;
pub mod judge;
pub mod protocol;
mod survey;

/// A protocol with a flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// W is raised to the tail before the sync.
    AcknowledgeBeforeSync,
    /// W is raised to the tail as it is when the sync returns, not as it was when it was issued.
    TailAfterSync,
    /// A commit syncs the segment of the tail and not the older ones.
    SyncYoungestOnly,
    /// A failed sync is tried again.
    RetrySync,
    /// A watermark names the tail instead of W.
    WatermarkNamesTail,
    /// The manifest names a new file before its directory is synced.
    ManifestBeforeDirSync,
    /// A sealed segment is said to be sealed before it is synced.
    ManifestBeforeSeal,
    /// Retention removes a file before the manifest says so.
    RetireBeforeManifest,
    /// Retention gives up a segment before the head stamp behind it is durable.
    RetireBeforeDurable,
    /// Retention tells one slot of the manifest only.
    RetireInOneSlot,
    /// Recovery removes files above the end before the manifest says so.
    DropBeforeManifest,
    /// Recovery believes what the page cache shows and does not write it back.
    NoWriteBack,
    /// Recovery writes back through pages that an earlier failed sync has left.
    NoDrop,
    /// Recovery drops pages before it has read them.
    DropBeforeReading,
    /// Recovery does not look whether what is durable is still seen once its pages are dropped.
    NoRestore,
    /// Nor whether the newest slot of the manifest is.
    NoSlotAgain,
    /// Recovery says in the manifest what is durable before it has synced it.
    ManifestBeforeWriteBack,
    /// Recovery starts no new log number, so that stale bytes count as soon as they join on.
    NoResume,
    /// A segment that has a younger one behind it is taken for durable.
    YoungerProves,
    /// A record that cannot be read ends the log, whatever W says.
    AllTorn,
    /// A log without any head stamp is a new one, whatever watermarks say.
    NoStampIsNew,
    /// A process writes a slot of the manifest beside one that another process may have left unsynced.
    NoSlotSync,
    /// Nobody looks for watermarks behind a record that cannot be read.
    NoEvidence,
}
