package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Checkpoint says that the log had Size records and this tree over them.
type Checkpoint struct {
	Size uint64
	Root Hash
	Time time.Time
	// Note is the signed text.
	Note string

	file string // the archive that it was found in; empty: elsewhere
}

// source says where a checkpoint comes from that is in an archive.
func (c *Checkpoint) source() string {
	if c.file == "" {
		return ""
	}
	return "; so says the archive " + c.file + ", which this database does not know: it is older than that, or was changed"
}

// maxNote bounds what is read of a signed note.
const maxNote = 64 << 10

// text is what is signed: a C2SP tlog-checkpoint, whose origin is the name of
// the key, with the time as an extension line.
func (c *Checkpoint) text(origin string) string {
	return fmt.Sprintf("%s\n%d\n%s\n%s\n", origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]), c.Time.UTC().Format(time.RFC3339Nano))
}

// Sign makes a checkpoint of a head.
func Sign(h *Head, at time.Time, signer note.Signer) (*Checkpoint, error) {
	c := &Checkpoint{Size: h.Size, Root: h.Root(), Time: at.UTC()}
	signed, err := note.Sign(&note.Note{Text: c.text(signer.Name())}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	c.Note = string(signed)
	return c, nil
}

// OpenCheckpoint reads a signed checkpoint. Nothing in it is believed before
// the signature of key has been checked.
func OpenCheckpoint(signed string, key note.Verifier) (*Checkpoint, error) {
	if len(signed) > maxNote {
		return nil, badCheckpoint("it is too long")
	}
	n, err := note.Open([]byte(signed), note.VerifierList(key))
	if err != nil {
		return nil, badCheckpoint(err.Error())
	}
	c := &Checkpoint{Note: signed}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 5 || lines[0] != key.Name() {
		return nil, badCheckpoint("it is signed, and yet no checkpoint of an audit log")
	}
	if c.Size, err = strconv.ParseUint(lines[1], 10, 64); err != nil {
		return nil, badCheckpoint("its size is no number")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return nil, badCheckpoint("its hash is none")
	}
	copy(c.Root[:], root)
	if c.Time, err = time.Parse(time.RFC3339Nano, lines[3]); err != nil || c.text(key.Name()) != n.Text {
		return nil, badCheckpoint("its form is not canonical")
	}
	return c, nil
}

func badCheckpoint(why string) error {
	return sdk.Errorf(codes.DataLoss, "AUDIT_CHECKPOINT", "the checkpoint cannot be trusted: %s", why).
		WithRemedy("give the key of the host that signed it, or another checkpoint")
}

// ParseKey reads a public key: what stands in state/audit.pub.
func ParseKey(text []byte) (note.Verifier, error) {
	v, err := note.NewVerifier(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, sdk.Errorf(codes.InvalidArgument, "AUDIT_KEY", "this is no public key of an audit log: %w", err).
			WithRemedy("give the line of the host's state/audit.pub")
	}
	return v, nil
}

// SplitCheckpoints takes apart a text of signed checkpoints, one after the
// other with empty lines between. What follows the last one without a signature
// was cut off while it was written, and is left out, unless it is all there is.
func SplitCheckpoints(text string) []string {
	var notes []string
	rest := text
	for {
		rest = strings.TrimLeft(rest, "\n")
		end := noteEnd(rest)
		if end < 0 {
			break
		}
		notes, rest = append(notes, rest[:end]), rest[end:]
	}
	if len(notes) == 0 {
		return []string{text}
	}
	return notes
}

// noteEnd returns where the first signed note ends: after the last of the lines
// of signatures that follow its text. It is -1 when there is none.
func noteEnd(text string) int {
	const signature = "\n\n— "
	i := strings.Index(text, signature)
	if i < 0 {
		return -1
	}
	for end := i + len("\n\n"); ; {
		n := strings.IndexByte(text[end:], '\n')
		if n < 0 {
			return -1
		}
		if end += n + 1; !strings.HasPrefix(text[end:], "— ") {
			return end
		}
	}
}
