//! What must hold, one file each with its statement; judged against the true state that only the simulator sees.
//!
//! The numbers are those of the project's list of invariants. Absent: I16 (consensus is a library's, here it is a list that
//! cannot fail), and of I20 all but claims (who may do what is asked in one place and tested there).

pub(crate) mod i01;
pub(crate) mod i02;
pub(crate) mod i03;
pub(crate) mod i04;
pub(crate) mod i05;
pub(crate) mod i06;
pub(crate) mod i07;
pub(crate) mod i08;
pub(crate) mod i09;
pub(crate) mod i10;
pub(crate) mod i11;
pub(crate) mod i12;
pub(crate) mod i12_cluster;
pub(crate) mod i13;
pub(crate) mod i14;
pub(crate) mod i15;
pub(crate) mod i17;
pub(crate) mod i18;
pub(crate) mod i19;
pub(crate) mod i20;
pub(crate) mod i21;
pub(crate) mod i22;
pub(crate) mod i23;

/// Which one.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Code {
    /// See its file; so with all.
    I1,
    /// No two clients believe in what conflicts.
    I2,
    /// Tokens rise.
    I3,
    /// What checks tokens applies nothing stale.
    I4,
    /// One master at a time.
    I5,
    /// A release that was acknowledged stays done.
    I6,
    /// What is held is not given away.
    I7,
    /// No session ends too early.
    I8,
    /// A dead holder gives way in time.
    I9,
    /// A conversion is whole.
    I10,
    /// Queues are served in their order.
    I11,
    /// Cycles at one master are broken.
    I12,
    /// Who blocks is told.
    I13,
    /// A request has one effect.
    I14,
    /// Epochs rise, and each is one.
    I15,
    /// Nobody acts without authority.
    I17,
    /// Everything is bounded.
    I18,
    /// Watchers miss nothing silently.
    I19,
    /// Nothing is claimed that was not granted.
    I20,
    /// A value is the last or is marked.
    I21,
    /// Everything ends once faults do.
    I22,
    /// A client's library knows its own deadline.
    I23,
    /// What programs were told could have come from one lock manager.
    Model,
    /// A part says of itself that it is broken.
    Check,
    /// The code panicked.
    Panic,
}

impl Code {
    /// What must hold.
    #[must_use]
    pub const fn statement(self) -> &'static str {
        match self {
            Code::I1 => i01::STATEMENT,
            Code::I2 => i02::STATEMENT,
            Code::I3 => i03::STATEMENT,
            Code::I4 => i04::STATEMENT,
            Code::I5 => i05::STATEMENT,
            Code::I6 => i06::STATEMENT,
            Code::I7 => i07::STATEMENT,
            Code::I8 => i08::STATEMENT,
            Code::I9 => i09::STATEMENT,
            Code::I10 => i10::STATEMENT,
            Code::I11 => i11::STATEMENT,
            Code::I12 => i12::STATEMENT,
            Code::I13 => i13::STATEMENT,
            Code::I14 => i14::STATEMENT,
            Code::I15 => i15::STATEMENT,
            Code::I17 => i17::STATEMENT,
            Code::I18 => i18::STATEMENT,
            Code::I19 => i19::STATEMENT,
            Code::I20 => i20::STATEMENT,
            Code::I21 => i21::STATEMENT,
            Code::I22 => i22::STATEMENT,
            Code::I23 => i23::STATEMENT,
            Code::Model => "what programs were told fits the leased six-mode model, resource by resource",
            Code::Check => "every part's own check of its state passes",
            Code::Panic => "nothing panics",
        }
    }
}
