// Package journal is an instance's write-ahead log: what the instance admits is
// appended to it before the request is answered, and what an instance has left
// behind is read by the next process, so that nothing acknowledged is lost.
//
// # Durability
//
//   - [Memory] writes nothing. What was not flushed is lost with the process.
//   - [Process] has the record in the kernel's page cache before [Journal.Append]
//     returns. It survives the end of the process in any way, kill -9 included. A
//     loss of power, or of the machine, may lose what the kernel had not written
//     back, and may damage the segments that were being written.
//   - [Disk] has it on the device before Append returns: fdatasync on Linux,
//     F_FULLFSYNC on macOS. It survives a loss of power, as far as the device keeps
//     its word. Appends that run at the same time share one sync.
//
// On Linux the beginning of a process segment is mapped: a record is stored to memory, which costs
// a small part of a system call. What is mapped is 64 KiB, used again and again: the records in it
// are moved behind it by one write when it is full. (The first store to each page of a file is a
// fault, which costs more than the records of the page; a segment that was mapped as a whole had
// one for each of its pages.) Its blocks are allocated before they are mapped, so
// that a full disk shows as an error and not as a fault; a page that faults for
// another reason is an error as well. Where a file system can't do either, and on other systems,
// groups of records are written instead, by the same code that disk segments use.
//
// # How a meter uses it
//
// Segment n is batch n. Appends and the counters they stand for change under the
// read side of one lock, and the drain takes its write side, so that a segment and
// the rows of its batch hold exactly the same usage:
//
//	gate.RLock()                            // each request
//	_, err := journal.Append(record)
//	// ... count the record in memory ...
//	gate.RUnlock()
//
//	journal.Prepare()                       // each flush; its error is logged
//	gate.Lock()
//	seq, err := journal.Rotate()
//	// ... take the counters ...
//	gate.Unlock()
//	// ... apply the rows as batch seq, again and again until it is acknowledged ...
//	journal.Written(journal.SegmentID{Instance: instance, Seq: seq})
//
// Rotate uses up a sequence number, and sequences have no gaps. So a drain that
// finds no rows doesn't rotate, and one that does makes one batch, however many rows
// it has. For [Disk], Append waits for the device: hold no lock that others need
// but the gate.
//
// Append returns the segment that the record landed in. Who tags the counters with
// it needs no such lock: a drain then takes what is tagged with the sealed segment, when
// the appends to it have been counted.
//
// On start, each of [Journal.Recovered] is read, folded, and applied as the batch
// of its own identity, which counts once however often it is replayed. Where
// appends had failed and the usage was counted all the same, a segment lacks it, and
// may be missing: its batch is then an empty one.
//
// # Files
//
// A folder belongs to one journal at a time, by flock(2) on its file "lock". A
// segment's file is named <instance>-<sequence>.journal, the instance as a UUID in
// lower case, the sequence in 20 decimal digits. All integers in it are
// little-endian. CRC is the CRC-32C (Castagnoli, RFC 3720 appendix B.4).
//
// It begins with a header of 64 bytes:
//
//	offset  size  what
//	0       8     magic: "TOLLGATE"
//	8       4     version: 2
//	12      1     durability: 1 process, 2 disk
//	13      3     zero
//	16      16    instance: UUID
//	32      8     sequence of the segment, from 1
//	40      4     w: where the tail of a mapped segment ends in the file; 0 in another segment
//	44      4     CRC of bytes 0 to 43: the segment's salt
//	48      8     m: how many bytes of records were moved behind the tail
//	56      8     zero
//
// Records follow without gaps. In a mapped segment the first m bytes of them are at w, and the rest
// is behind the header, in the tail, which ends at w. A record's offset is where it would be if all
// of them followed the header. A move writes the tail's records to w+m, then m, then zeros to the
// tail; no record is in two parts. A process may end at any step of that: by the offset in its
// checksum, what the tail had before isn't taken for a record. Where the tail doesn't go on and what
// is behind it does, m is old (a copy of a file that was being written), and it is read there.
//
// Each record begins with a head:
//
//	offset  size  what
//	0       4     CRC of bytes 4 to the end of the record, XOR the segment's salt and, in a mapped
//	              segment, XOR the record's offset
//	4       2     length of the record, head included
//	6       1     kind: 1 usage, 2 mark, 3 identified report, 4 identified report of a batch with a key
//	7       1     lease: the window that it is of: 0 none, 1 day, 2 month
//
// A usage record, of 50 to 175 bytes, goes on:
//
//	offset  size  what
//	8       16    organization: UUID
//	24      8     quantity, signed
//	32      8     time of the report: Unix nanoseconds, signed
//	40      4     day: days since 1970-01-01, signed
//	44      4     version of the plan that prices it
//	48      1     length of the meter's key, m
//	49      m     meter: its key, of 1 to 63 bytes
//	49+m    0-63  key of the plan that prices it, to the end of the record
//
// An identified report is usage that bears an identity. It takes 103 to 291 bytes, is the same up to
// byte 47, and goes on:
//
//	offset  size  what
//	48      16    identity, not all zeros
//	64      8     fingerprint
//	72      8     receipt: current, signed
//	80      8     receipt: held, signed
//	88      8     receipt: max, signed
//	96      1     receipt: mode: 0 none, 1 hard, 2 soft, 3 unlimited
//	97      1     receipt: over the limit: 0 or 1
//	98      1     receipt: the window that it was decided in, as in byte 7
//	99      1     length of the meter's key, m
//	100     1     length of the key of the plan that prices it, p
//	101     1     zero
//	102     m     meter: its key
//	102+m   p     key of the plan that prices it
//	102+m+p 0-63  receipt: the plan's key, to the end of the record
//
// An identified report of a request that bore a key for all its reports has 24 bytes more, at its end:
//
//	16    identity of the key
//	8     fingerprint of the request
//
// A mark, of 16 bytes, begins each group of a disk segment. It says that all before
// it was on the device before it was written:
//
//	offset  size  what
//	8       8     offset of the mark itself in the file
//
// What follows the last record is zeros (room that was allocated ahead) or a torn
// tail: records that were being written when the process or the power went, and
// that nobody had been told of. [Read] cuts it at the last whole record and says
// how much it cut. Where there is no whole record but an intact one follows (in a
// disk segment: an intact mark), what was whole is damaged: that is [ErrCorrupt],
// and the file is kept. A file shorter than its header, or all zeros, is a segment
// that was being made and has no records.
package journal
