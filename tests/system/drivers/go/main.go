// Go's database/sql with lib/pq, or pgx, with their default settings: program DRIVER TASK;
// libpq's variables say where.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	_ "github.com/jackc/pgx/v4/stdlib"
	"github.com/lib/pq"
)

var driver string

func number(name string) int {
	n, err := strconv.Atoi(os.Getenv(name))
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func same(expected, found interface{}) {
	if expected != found {
		panic(fmt.Sprintf("expected %v, found %v", expected, found))
	}
}

func state(err error) string {
	var ofPq *pq.Error
	var ofPgx *pgconn.PgError
	if errors.As(err, &ofPq) {
		return string(ofPq.Code)
	}
	if errors.As(err, &ofPgx) {
		return ofPgx.Code
	}
	return fmt.Sprint(err)
}

func open() *sql.DB {
	settings := ""
	for key, value := range map[string]string{"host": "PGHOST", "port": "PGPORT", "user": "PGUSER",
		"password": "PGPASSWORD", "dbname": "PGDATABASE", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"} {
		if found := os.Getenv(value); found != "" {
			settings += key + "=" + found + " "
		} else if key == "sslmode" {
			settings += "sslmode=disable "
		}
	}
	db, err := sql.Open(driver, settings)
	check(err)
	return db
}

// run(connection, i) for n connections at once.
func each(n int, run func(ctx context.Context, c *sql.Conn, i int)) {
	db := open()
	defer db.Close()
	var all sync.WaitGroup
	for i := 0; i < n; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			c, err := db.Conn(context.Background())
			check(err)
			run(context.Background(), c, i)
			check(c.Close())
		}(i)
	}
	all.Wait()
}

func one(ctx context.Context, c *sql.Conn, query string, values ...interface{}) (found string, err error) {
	err = c.QueryRowContext(ctx, query, values...).Scan(&found)
	return
}

func ask(ctx context.Context, c *sql.Conn, query string, values ...interface{}) string {
	found, err := one(ctx, c, query, values...)
	check(err)
	return found
}

// Queries with parameters: lib/pq prepares them without a name, and runs them in another round trip.
func share() {
	var moved sync.Map
	turns := number("N_TURNS")
	each(number("N_CLIENTS"), func(ctx context.Context, c *sql.Conn, i int) {
		pids := map[int]bool{}
		named, err := c.PrepareContext(ctx, fmt.Sprintf("select '%d' || $1::text", i))
		check(err)
		for turn := 0; turn < turns; turn++ {
			tag := fmt.Sprintf("%d:%d", i, turn)
			var text string
			var n, pid int
			check(c.QueryRowContext(ctx, "select $1::text, $2::int + 1, pg_backend_pid()", tag, turn).Scan(&text, &n, &pid))
			same(tag, text)
			same(turn+1, n)
			pids[pid] = true
			same(fmt.Sprintf("%d%s", turn%7, tag), ask(ctx, c, fmt.Sprintf("select '%d' || $1::text", turn%7), tag))
			check(named.QueryRowContext(ctx, tag).Scan(&text))
			same(fmt.Sprintf("%d%s", i, tag), text)
			if turn%5 == 0 {
				_, err := one(ctx, c, "select 1 / $1::int", 0)
				same("22012", state(err))
			}
			for _, end := range []string{"kept", "taken back"} {
				if turn%2 == 0 {
					break
				}
				tx, err := c.BeginTx(ctx, nil)
				check(err)
				_, err = tx.ExecContext(ctx, "insert into driver_things values ($1, $2, $3)", i, turn, end)
				check(err)
				if end == "kept" {
					check(tx.Commit())
				} else {
					check(tx.Rollback())
				}
			}
		}
		same(fmt.Sprint(turns/2), ask(ctx, c, "select count(*) from driver_things where client = $1", i))
		same("kept", ask(ctx, c, "select max(tag) from driver_things where client = $1", i))
		check(named.Close())
		if len(pids) > 1 {
			moved.Store("moved", true)
		}
	})
	if _, has := moved.Load("moved"); has {
		fmt.Println("moved")
	} else {
		fmt.Println("stayed")
	}
}

func cancel() {
	each(4, func(ctx context.Context, c *sql.Conn, i int) {
		if i >= 2 {
			for turn := 0; turn < 1000; turn++ {
				same(fmt.Sprint(turn), ask(ctx, c, "select $1::int", turn))
			}
			return
		}
		db := open()
		defer db.Close()
		for turn := 0; turn < 4; turn++ {
			short, end := context.WithTimeout(ctx, 300*time.Millisecond)
			_, err := db.ExecContext(short, "select pg_sleep(30)")
			end()
			if err == nil {
				panic("it was not cancelled")
			}
			same(fmt.Sprint(turn), ask(ctx, c, "select $1::int", turn))
		}
	})
}

func large() {
	each(3, func(ctx context.Context, c *sql.Conn, i int) {
		letter := string("abc"[i])
		same(strings.Repeat(letter, 5000000), ask(ctx, c, "select repeat($1, 5000000)", letter))
		long := strings.Repeat(letter, 3000000)
		same(long, ask(ctx, c, "select $1::text", long))
		for _, n := range []int{15000, 20000, 1000000, 3000000} { // a statement as long
			text := strings.Repeat(letter, n)
			same(text+"!", ask(ctx, c, "select '"+text+"' || $1::text", "!"))
		}
		rows, err := c.QueryContext(ctx, "select x + $1 from generate_series(1, 50000) x", i)
		check(err)
		for x, found := 1, 0; rows.Next(); x++ {
			check(rows.Scan(&found))
			same(x+i, found)
		}
		check(rows.Close())
	})
}

func forget() {
	each(4, func(ctx context.Context, c *sql.Conn, i int) {
		for turn := 0; turn < 10; turn++ {
			if i == 0 {
				_, err := c.ExecContext(ctx, []string{"discard all", "deallocate all"}[turn%2])
				check(err)
			}
			query := fmt.Sprintf("select '%d:%d' || $1::text", turn, i)
			same(fmt.Sprintf("%d:%dx", turn, i), ask(ctx, c, query, "x"))
		}
	})
}

func copy() {
	each(4, func(ctx context.Context, c *sql.Conn, i int) {
		tx, err := c.BeginTx(ctx, nil)
		check(err)
		to, err := tx.PrepareContext(ctx, pq.CopyIn("driver_things", "client", "turn", "tag"))
		check(err)
		for turn := 0; turn < 5000; turn++ {
			_, err = to.ExecContext(ctx, i, turn, "copied")
			check(err)
		}
		_, err = to.ExecContext(ctx)
		check(err)
		check(to.Close())
		check(tx.Commit())
		same("5000", ask(ctx, c, "select count(*) from driver_things where client = $1", i))
	})
}

// database/sql makes a connection anew.
func lost() {
	db := open()
	defer db.Close()
	_, err := db.Exec("select pg_terminate_backend(pg_backend_pid())")
	if err == nil {
		panic("no error")
	}
	for turn := 0; turn < 5; turn++ {
		var found int
		check(db.QueryRow("select $1::int", turn).Scan(&found))
		same(turn, found)
	}
}

func main() {
	driver = os.Args[1]
	map[string]func(){"share": share, "cancel": cancel, "large": large, "forget": forget, "copy": copy,
		"lost": lost}[os.Args[2]]()
}
