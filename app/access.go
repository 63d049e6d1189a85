package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend/api"
	"github.com/prometheus/client_golang/prometheus"
)

// access says who may do what.
type access struct {
	Access    string `help:"File of principals, in YAML: who may do what with which logs, and by which tokens or certificates they are known. It is read again when it changes. Without it, only this machine may do anything." placeholder:"FILE"`
	Insecure  bool   `help:"Let everybody who reaches the API do everything: for a network in which everybody may."`
	AuditFile string `help:"File to which it is written who was refused, and who cleared, retried, discarded or paused something. If not set, that goes to the log." placeholder:"FILE"`
}

func (a access) check() error {
	if a.Access != "" && a.Insecure {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--access (DRAINMARK_ACCESS) and --insecure (DRAINMARK_INSECURE) contradict each other")
	}
	return nil
}

// open says whether others than this machine reach an address, and nobody has said who may do what.
func (a access) open(address string) bool {
	return a.Access == "" && !a.Insecure && !isLoopback(address)
}

// mayServe refuses to serve what is open to everybody, unless that is wanted.
func (a access) mayServe(listen string) error {
	if checkAddress("listen", listen) != nil || !a.open(listen) { // what is no address is said to be none
		return nil
	}
	return drainmark.Errorf(drainmark.KindMisconfigured, "--listen (DRAINMARK_LISTEN): %q can be reached by others than this machine: name a file of principals by --access "+
		"(DRAINMARK_ACCESS), for which \"drainmark token new\" makes tokens; or let everybody do everything by --insecure (DRAINMARK_INSECURE=true)", listen)
}

// authenticator says who makes a request.
func (a access) authenticator(logger *slog.Logger) (auth.Authenticator, error) {
	switch {
	case a.Insecure:
		return auth.Open, nil
	case a.Access == "":
		return auth.Local, nil
	}
	file, err := auth.Load(a.Access, logger)
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--access (DRAINMARK_ACCESS): %w", err)
	}
	return file.Authenticate, nil
}

// accounts bound what each principal and each address takes. Without a file of principals there are none.
func (a access) accounts(registry prometheus.Registerer) (*quota.Accounts, error) {
	if a.Access == "" {
		return nil, nil
	}
	return quota.New(quota.Config{Metrics: registry})
}

// audit returns where the audit log goes, and what closes it.
func (a access) audit(logger *slog.Logger) (to *slog.Logger, end func(), err error) {
	if a.AuditFile == "" {
		return logger, func() {}, nil
	}
	file, err := os.OpenFile(a.AuditFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, drainmark.Errorf(drainmark.KindMisconfigured, "--audit-file (DRAINMARK_AUDIT_FILE): %w", err)
	}
	return slog.New(slog.NewJSONHandler(file, nil)), func() { _ = file.Close() }, nil
}

// forAdmins serves those who may admin, and refuses everybody else.
func forAdmins(next http.Handler, gate *api.Gate) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, refusal := gate.Admit(w.Header(), r); refusal != nil {
			writeProblem(w, *refusal)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tokenCommand makes tokens.
type tokenCommand struct {
	New newTokenCommand `cmd:"" help:"Make a token, and print what the file of principals has to say of it."`
}

type newTokenCommand struct {
	Name string `arg:"" help:"Name of the principal."`
}

// Run is called by kong.
func (c *newTokenCommand) Run(a *invocation) error {
	if err := auth.CheckName(c.Name); err != nil {
		return drainmark.Errorf(drainmark.KindInvalid, "NAME: %w", err)
	}
	token, sum := auth.NewToken()
	// Apart from what may be sent into a file of principals, which has no secrets.
	if _, err := fmt.Fprintf(a.stderr, "The token, for the client. It is shown only now:\n%s\n", token); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, `# For the file of principals (--access):
principals:
  - name: %s
    tokens:
      - sha256: %s
    grants: ["append:*", "read:*", "barrier:*"]
`, c.Name, sum)
	return err
}
