package httpserve

import (
	"context"
	"net/http"
	"time"
)

// StopTime is how long open requests get when a server ends.
const StopTime = 5 * time.Second

// shutDown ends a server in good order, or by force when StopTime is over.
func (s *server) shutDown(ctx context.Context, server *http.Server) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTime)
	defer cancel()
	if server.Shutdown(end) != nil {
		s.cut.Store(true)
		_ = server.Close()
	}
}
