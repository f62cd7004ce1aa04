// PostgreSQL's JDBC driver with its default settings: java Jdbc TASK; libpq's variables say where.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class Jdbc {
    static final Map<String, String> env = System.getenv();
    static final int nClients = Integer.parseInt(env.get("N_CLIENTS"));
    static final int nTurns = Integer.parseInt(env.get("N_TURNS"));

    interface Task {
        void run(Connection connection, int number) throws Exception;
    }

    static Connection connect(String... more) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", env.get("PGUSER"));
        properties.setProperty("password", env.get("PGPASSWORD"));
        if (env.containsKey("PGSSLMODE")) {
            properties.setProperty("sslmode", env.get("PGSSLMODE"));
            properties.setProperty("sslrootcert", env.get("PGSSLROOTCERT"));
        }
        for (int i = 0; i < more.length; i += 2)
            properties.setProperty(more[i], more[i + 1]);
        return DriverManager.getConnection(
            "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE"),
            properties);
    }

    static void each(int n, Task task) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(n);
        List<Future<Object>> ends = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            int number = i;
            ends.add(threads.submit(() -> {
                try (Connection connection = connect()) {
                    task.run(connection, number);
                }
                return null;
            }));
        }
        for (Future<Object> end : ends)
            end.get(90, TimeUnit.SECONDS);
        threads.shutdown();
    }

    static void same(Object expected, Object found) {
        if (!expected.equals(found))
            throw new AssertionError("expected " + expected + ", found " + found);
    }

    interface Call {
        void run() throws Exception;
    }

    static String stateOf(Call call) throws Exception {
        try {
            call.run();
        } catch (SQLException error) {
            return error.getSQLState();
        }
        return "no error";
    }

    static Object one(Connection connection, String query, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int i = 0; i < values.length; i++)
                statement.setObject(i + 1, values[i]);
            try (ResultSet found = statement.executeQuery()) {
                found.next();
                return found.getObject(1);
            }
        }
    }

    static void insert(Connection connection, int number, int turn, String tag) throws SQLException {
        try (PreparedStatement statement =
                 connection.prepareStatement("insert into driver_things values (?, ?, ?)")) {
            for (int i = 0; i < 3; i++) {
                statement.setInt(1, number);
                statement.setInt(2, turn);
                statement.setString(3, tag);
                statement.addBatch();
            }
            for (int n : statement.executeBatch())
                same(1, n);
        }
    }

    // The fifth time a statement is prepared under a name; with autocommit and without.
    static void share() throws Exception {
        Set<Integer> moved = ConcurrentHashMap.newKeySet();
        each(nClients, (connection, number) -> {
            Set<Integer> pids = new HashSet<>();
            for (int turn = 0; turn < nTurns; turn++) {
                String tag = number + ":" + turn;
                try (PreparedStatement statement = connection.prepareStatement(
                         "select ?::text, ?::int + 1, pg_backend_pid(), 0.1::float8 + 0.2")) {
                    statement.setString(1, tag);
                    statement.setInt(2, turn);
                    ResultSet found = statement.executeQuery();
                    found.next();
                    same(tag, found.getString(1));
                    same(turn + 1, found.getInt(2));
                    pids.add(found.getInt(3));
                    same(0.1 + 0.2, found.getDouble(4)); // extra_float_digits of its startup
                }
                same(turn % 7 + tag, one(connection, "select '" + turn % 7 + "' || ?::text", tag));
                if (turn % 5 == 0)
                    same("22012", stateOf(() -> one(connection, "select 1 / ?::int", 0)));
                if (turn % 2 == 0)
                    continue;
                connection.setAutoCommit(false);
                insert(connection, number, turn, "kept");
                connection.commit();
                insert(connection, number, turn, "taken back");
                Savepoint savepoint = connection.setSavepoint();
                same("22012", stateOf(() -> one(connection, "select 1 / ?::int", 0)));
                connection.rollback(savepoint);
                same(tag, one(connection, "select ?::text", tag));
                connection.rollback();
                connection.setAutoCommit(true);
            }
            same(3L * nTurns / 2, one(connection, "select count(*) from driver_things where client = ?", number));
            same("kept", one(connection, "select max(tag) from driver_things where client = ?", number));
            if (pids.size() > 1)
                moved.add(number);
        });
        System.out.println(moved.isEmpty() ? "stayed" : "moved");
    }

    static void settings() throws Exception {
        each(nClients, (connection, number) -> {
            boolean readOnly = number % 2 == 0;
            connection.setReadOnly(readOnly);
            for (int turn = 0; turn < nTurns; turn++) {
                connection.setAutoCommit(false);
                same(readOnly ? "on" : "off", one(connection, "select current_setting('transaction_read_only')"));
                same(readOnly ? "25006" : "no error", stateOf(() -> insert(connection, number, 0, "written")));
                connection.rollback();
                connection.setAutoCommit(true);
            }
        });
    }

    static void cancel() throws Exception {
        each(4, (connection, number) -> {
            for (int turn = 0; turn < 4; turn++) {
                if (number < 2) {
                    same("57014", stateOf(() -> {
                        try (Statement statement = connection.createStatement()) {
                            statement.setQueryTimeout(1);
                            statement.execute("select pg_sleep(30)");
                        }
                    }));
                } else {
                    for (int i = 0; i < 300; i++)
                        same(number * 1000 + i, one(connection, "select ?::int", number * 1000 + i));
                }
                same("still " + number, one(connection, "select 'still ' || ?::text", "" + number));
            }
        });
    }

    static void copy() throws Exception {
        each(4, (connection, number) -> {
            CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int turn = 0; turn < 20000; turn++)
                lines.append(number + "\t" + turn + "\ta line of " + number + "\n");
            same(20000L, manager.copyIn("copy driver_things from stdin", new StringReader(lines.toString())));
            StringWriter out = new StringWriter();
            manager.copyOut("copy (select * from driver_things where client = " + number +
                                " order by turn) to stdout", out);
            same(lines.toString(), out.toString());
            same("22P02", stateOf(() -> manager.copyIn("copy driver_things from stdin",
                                                       new StringReader("none\tnone\tnone\n"))));
            same(20000L, one(connection, "select count(*) from driver_things where client = ?", number));
        });
    }

    // At once, and by portals of a transaction.
    static void large() throws Exception {
        each(3, (connection, number) -> {
            String letter = "abc".substring(number, number + 1);
            same(letter.repeat(5000000), one(connection, "select repeat(?, 5000000)", letter));
            String text = letter.repeat(3000000);
            same(text, one(connection, "select ?::text", text));
            connection.setAutoCommit(false);
            for (int turn = 0; turn < 8; turn++) {
                try (PreparedStatement statement =
                         connection.prepareStatement("select x + ? from generate_series(1, 5000) x")) {
                    statement.setInt(1, number);
                    statement.setFetchSize(500);
                    ResultSet found = statement.executeQuery();
                    for (int i = 1; i <= 5000; i++) {
                        found.next();
                        same(i + number, found.getInt(1));
                    }
                    same(false, found.next());
                }
                connection.commit();
            }
        });
    }

    // The driver sees by the answer that its names have gone.
    static void forget() throws Exception {
        each(4, (connection, number) -> {
            for (int turn = 0; turn < 10; turn++) {
                if (number == 0)
                    connection.createStatement().execute(turn % 2 == 0 ? "discard all" : "deallocate all");
                for (int i = 0; i < 8; i++)
                    same(turn + ":" + number, one(connection, "select ?::int || ':' || " + number, turn));
            }
        });
    }

    static void notices() throws Exception {
        each(nClients, (connection, number) -> {
            for (int turn = 0; turn < 30; turn++) {
                Statement statement = connection.createStatement();
                statement.execute("do $$ begin raise notice '" + number + ":" + turn + "'; end $$");
                same(number + ":" + turn, statement.getWarnings().getMessage());
            }
        });
    }

    static void lost() throws Exception {
        try (Connection victim = connect()) {
            same("57P01", stateOf(() -> one(victim, "select pg_terminate_backend(pg_backend_pid())")));
            same(false, victim.isValid(5));
        }
        try (Connection again = connect()) {
            same(true, again.isValid(5));
            same(8, one(again, "select ?::int", 8));
        }
    }

    public static void main(String[] arguments) throws Exception {
        try {
            Jdbc.class.getDeclaredMethod(arguments[0]).invoke(null);
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1); // whatever the other threads do
        }
    }
}
