//! The one place that decides who may do what. Every operation and every session passes here before it has any effect;
//! for now all is allowed but going on with somebody else's session.

use lockstead_types::request::Op;

use crate::principal::Principal;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Allow,
    Deny,
}

/// Whether `principal` may do `op`.
pub(crate) fn decide(principal: &Principal, op: &Op<'_>) -> Decision {
    let _everybody = principal;
    // [AUTH-1] No default arm: a new operation does not compile until somebody has decided here who may do it.
    match op {
        Op::Lock(_)
        | Op::LockMany(_)
        | Op::LockPath(_)
        | Op::Convert(_)
        | Op::Release { .. }
        | Op::Cancel(_)
        | Op::ReadValue(_)
        | Op::Sync
        | Op::GroupAttach { .. }
        | Op::GroupDetach(_)
        | Op::Begin { .. }
        | Op::Resume(_)
        | Op::Commit
        | Op::Rollback { .. }
        | Op::Savepoint
        | Op::EndStatement => Decision::Allow,
        Op::SpaceOpen { .. } | Op::SpaceCreate(_) | Op::SpaceDrop { .. } => Decision::Allow,
        Op::Purge { .. } | Op::ForceRelease { .. } | Op::EndSession { .. } => Decision::Allow,
        // As long as principals have no rights of their own; a peer without authentication is refused by the listener's rules.
        Op::Cluster(_) => Decision::Allow,
        Op::Query(_) | Op::Watch { .. } | Op::Unwatch => Decision::Allow,
    }
}

/// Whether `principal` may open a session of its own.
pub(crate) fn decide_open(principal: &Principal) -> Decision {
    match principal {
        Principal::Local { .. } | Principal::Address(_) | Principal::Embedded => Decision::Allow,
    }
}

/// Whether `principal` may go on with a session that `owner` opened. A session id is a name, not a secret: `sessions` shows
/// it to everybody.
pub(crate) fn decide_attach(principal: &Principal, owner: &Principal) -> Decision {
    // [AUTH-2] The same principal, or the superuser of this host.
    if principal.is_same(owner) || principal.is_superuser() { Decision::Allow } else { Decision::Deny }
}

/// Whether waits of `principal`'s session may count as waits of one that `outer` opened: they may make `outer`'s requests
/// victims of a deadlock.
pub(crate) fn decide_within(principal: &Principal, outer: &Principal) -> Decision {
    // [AUTH-3] As for going on with that session.
    decide_attach(principal, outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_session_is_denied() {
        let user = |uid| Principal::Local { uid, gid: 1, pid: 1 };
        assert_eq!(decide_attach(&user(7), &user(7)), Decision::Allow);
        assert_eq!(decide_attach(&user(7), &user(8)), Decision::Deny);
        assert_eq!(decide_attach(&user(0), &user(8)), Decision::Allow);
        assert_eq!(decide_attach(&Principal::Address("h:1".into()), &user(8)), Decision::Deny);
    }
}
