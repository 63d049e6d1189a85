package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
)

// place is where a broker or a store is, as a setting says it.
type place struct {
	setting string // that says it
	url     string
	file    string   // that has the URL, empty for none
	index   int      // of the URL in the file, from 0
	rest    []string // what the file says besides users and passwords
}

// scheme is what the URL begins with.
func (p place) scheme() string {
	scheme, _, _ := strings.Cut(p.url, ":")
	return scheme
}

// placeOf returns the place that a setting says, or the file of its sibling NAME-file. One of them is empty.
func placeOf(name, given, file string) (place, error) {
	if file == "" {
		return place{setting: name, url: strings.TrimSpace(given)}, nil // secrets often end with a line break
	}
	places, err := placesOf(name, nil, file)
	if err == nil && len(places) > 1 {
		err = badSetting(name+"-file", file, fmt.Sprintf("it has %d URLs, and must have one", len(places)))
	}
	if err != nil {
		return place{}, err
	}
	return places[0], nil
}

// placesOf is placeOf for several.
func placesOf(name string, given []string, file string) (places []place, err error) {
	if file == "" {
		for _, one := range given {
			places = append(places, place{setting: name, url: strings.TrimSpace(one)})
		}
		return places, nil
	}
	setting := name + "-file"
	urls, err := readURLs(file)
	if err != nil {
		return nil, badSetting(setting, file, err.Error())
	}
	rest := withoutLogins(urls)
	for index, one := range urls {
		places = append(places, place{setting, one, file, index, rest})
	}
	return places, nil
}

// urlsOf are the URLs of places.
func urlsOf(places []place) (urls []string) {
	for _, p := range places {
		urls = append(urls, p.url)
	}
	return urls
}

// maxURLs is how large a file with URLs can be, in bytes.
const maxURLs = 64 << 10

// readURLs reads a file of URLs with white space between them. Its errors show nothing of them.
func readURLs(file string) (urls []string, err error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxURLs {
		err = fmt.Errorf("it has more than %d bytes", maxURLs)
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	urls = strings.Fields(string(text))
	for _, one := range urls {
		if _, _, err := splitLogin(one); err != nil {
			return nil, err
		}
	}
	if len(urls) == 0 {
		return nil, errors.New("it is empty, and must have a URL")
	}
	return urls, nil
}

// splitLogin returns user and password of a URL, nil if it has none, and the URL without them.
func splitLogin(from string) (login *url.Userinfo, rest string, err error) {
	scheme, behind, _ := strings.Cut(from, "://")
	authority := behind
	if end := strings.IndexAny(behind, "/?#"); end >= 0 {
		authority = behind[:end]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return nil, from, nil
	}
	name, secret, _ := strings.Cut(authority[:at], ":")
	user, err := url.PathUnescape(name)
	password, wrong := url.PathUnescape(secret)
	if err != nil || wrong != nil || strings.ContainsAny(authority[:at], "@,") {
		return nil, "", errors.New("a URL in a file has user and password once, before the first host, and percent-encoded: @ is %40, a comma is %2C")
	}
	return url.UserPassword(user, password), scheme + "://" + behind[at+1:], nil
}

// credentials returns what says, for each new connection, as whom to log in: as the file says by then. It is nil without a
// file, and for a URL without a user. While the file cannot be used, what it said before counts.
func (p place) credentials(logger *slog.Logger) func() (user, password string) {
	login, _, _ := splitLogin(p.url) // it was read before
	if p.file == "" || login == nil {
		return nil
	}
	r := &rereading{place: p, logger: logger, login: login}
	return r.now
}

// rereading reads user and password again. Its methods may be called concurrently.
type rereading struct {
	place
	logger *slog.Logger

	mu     sync.Mutex
	login  *url.Userinfo // that was read last
	warned string        // of what, last
}

func (r *rereading) now() (user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	urls, err := readURLs(r.file)
	problem := ""
	switch {
	case err != nil:
		problem = "the file cannot be used: user and password stay as they were: " + err.Error()
	case !slices.Equal(withoutLogins(urls), r.rest):
		problem = "the file says something else besides user and password: that takes a restart"
	}
	if problem != "" && problem != r.warned {
		r.logger.Warn(problem, "setting", "--"+r.setting, "file", r.file)
	}
	r.warned = problem
	if r.index < len(urls) {
		if login, _, _ := splitLogin(urls[r.index]); login != nil {
			r.login = login
		}
	}
	password, _ = r.login.Password()
	return r.login.Username(), password
}

func withoutLogins(urls []string) (rest []string) {
	for _, one := range urls {
		_, without, _ := splitLogin(one)
		rest = append(rest, without)
	}
	return rest
}

// ends are what a consumer connects: the broker, and the store's master.
type ends struct {
	Broker     string `help:"URL of the broker: amqp://…, amqps://…, amqp10://…, amqp10s://…, kafka://…, kafka+tls://…, nats://… or tls://…" required:"" xor:"broker" placeholder:"URL"`
	BrokerFile string `help:"File with the URL of the broker. User and password are read again for each connection." required:"" xor:"broker" placeholder:"FILE"`
	Store      string `help:"URL of the store's master: postgres://…, redis://…, rediss://…, redis+sentinel://…, rediss+sentinel://… or sqlite:PATH" required:"" xor:"store" placeholder:"URL"`
	StoreFile  string `help:"File with the URL of the store's master. User and password are read again for each connection." required:"" xor:"store" placeholder:"FILE"`

	broker, store place
}

// locate finds out where the ends are, and checks it.
func (e *ends) locate() (err error) {
	if e.broker, err = placeOf("broker", e.Broker, e.BrokerFile); err != nil {
		return err
	}
	if e.store, err = placeOf("store", e.Store, e.StoreFile); err != nil {
		return err
	}
	return firstError(checkURL(e.broker.setting, e.broker.url, brokers, brokerSchemes), checkURL(e.store.setting, e.store.url, stores, storeSchemes))
}

// passwordURL is a URL with a password: before the host, or in a parameter. With NATS and Kafka, what stands alone before
// the host may be a token. Redis takes any character in a password.
var passwordURL = regexp.MustCompile(`://[^/?#\s]*:[^/?#\s]*@|(nats|tls|kafka|kafka\+tls)://[^/?#\s]+@|redis[a-z+]*://[^?\s]*:[^?\s]*@|://\S*[?&][a-z-]*password=`)

// exposed returns the flags of a command line whose URLs have a password.
func exposed(command []*kong.Path) (flags []string) {
	for _, part := range command {
		if part.Flag == nil || part.Resolved || slices.Contains(flags, part.Flag.Name) {
			continue
		}
		if passwordURL.MatchString(fmt.Sprint(part.Flag.Target.Interface())) {
			flags = append(flags, part.Flag.Name)
		}
	}
	return flags
}

// warn says what is odd about how the command was called.
func (a *invocation) warn(logger *slog.Logger) {
	for _, name := range a.unknown {
		logger.Warn("this environment variable is not a setting", "variable", name)
	}
	for _, name := range a.exposed {
		logger.Warn("there is a password on the command line, which others on this machine can read: give it in a file, or in the environment",
			"setting", "--"+name)
	}
	for _, name := range a.file.exposed() {
		logger.Warn(exposedFile, "setting", name, "file", a.configFile)
	}
}

// exposedFile is what is wrong with a configuration file with a password that others can read.
const exposedFile = "there is a password in the configuration file, which others on this machine can read: " +
	"take the right to read it from them (chmod o-r), or give the password in a file of its own, or in the environment"

// warnings is the same for people at a terminal.
func (a *invocation) warnings() (lines []string) {
	for _, name := range a.unknown {
		lines = append(lines, fmt.Sprintf("the environment variable %s is not a setting", name))
	}
	for _, name := range a.exposed {
		lines = append(lines, fmt.Sprintf("--%s has a password, which others on this machine can read: give it in a file, or in the environment", name))
	}
	for _, name := range a.file.exposed() {
		lines = append(lines, name+": "+exposedFile)
	}
	return lines
}

// textLogger logs to the standard error of a command that has no settings for that.
func (a *invocation) textLogger() *slog.Logger { return slog.New(slog.NewTextHandler(a.stderr, nil)) }
