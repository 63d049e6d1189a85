package app

import (
	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/frontend"
)

// entering is where people sign in on the pages, besides by a token that they paste.
type entering struct {
	LoginIssuer   string `help:"URL of the OpenID Connect issuer at which people sign in on the pages. --access must have it too, for the audience that is the client id." placeholder:"URL" group:"Signing in"`
	LoginClientID string `name:"login-client-id" help:"Id of the pages as a client of the issuer: a public one, with PKCE and no secret." placeholder:"ID" group:"Signing in"`
	LoginScopes   string `help:"Scopes to ask the issuer for, with spaces between them." default:"openid" group:"Signing in"`
	LoginCA       string `name:"login-ca" help:"File with the authorities of the issuer's certificate. The system's if not set." placeholder:"FILE" group:"Signing in"`
}

func (e entering) login() frontend.Login {
	return frontend.Login{Issuer: e.LoginIssuer, ClientID: e.LoginClientID, Scopes: e.LoginScopes, CA: e.LoginCA}
}

func (e entering) check() error {
	if err := e.login().Check(); err != nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--login-issuer, --login-client-id, --login-scopes and --login-ca (DRAINMARK_LOGIN_…): %w", err)
	}
	return nil
}
