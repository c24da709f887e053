from django.urls import path

from users import views

app_name = "users"
urlpatterns = [
    path("users/", views.UserList.as_view(), name="list"),
    path("users/new/", views.UserCreate.as_view(), name="create"),
    path("users/<int:pk>/", views.UserDetail.as_view(), name="detail"),
    path("users/<int:pk>/edit/", views.UserEdit.as_view(), name="edit"),
    path("users/<int:pk>/delete/", views.UserDelete.as_view(), name="delete"),
    path("profile/", views.Profile.as_view(), name="profile"),
    path("profile/password/", views.ChangePassword.as_view(), name="password"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", views.Logout.as_view(), name="logout"),
]
